//! The process while another node owns the event log, or while this one takes over.

use std::{convert::Infallible, pin::Pin, time::Duration};

use liveobject_actors::{Node, NodeEnd, Service, ServiceOptions, StartError, domain::lease::Term};
use tokio::time::sleep;

use super::{
    AppError, Signals,
    active::{Active, stop_server},
    base::{Base, Standby, renew},
    crashed,
};
use crate::{cli::Exit, http::StandbyState, service_manager::ServiceManager};

/// How long requests may take to be answered when this node has become active or ends.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// When this node ends, how long the active node may take to respond to requests that were forwarded to it.
const LAST_RESPONSES: Duration = Duration::from_millis(250);

/// How often the key is read that the nodes share: until it is known, and then.
const KEY_EVERY: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];

/// What follows.
pub enum StandbyEnd {
    /// The process ends.
    Exit(Exit),
    /// This node has become active.
    Active(Box<Active>),
}

/// What ended the wait.
enum Event {
    Started(Box<Service>, Term),
    Ended(NodeEnd),
    Failed(StartError),
}

/// Waits until this node is active, and starts the service.
async fn take_over(node: &mut Node) -> Event {
    loop {
        let term = match node.active().await {
            Ok(term) => term,
            Err(end) => return Event::Ended(end),
        };
        match Box::pin(node.start(term)).await {
            Ok(Some(service)) => return Event::Started(Box::new(service), term),
            Ok(None) => {}
            Err(error) => return Event::Failed(error),
        }
    }
}

/// Reads the key that the nodes share, as long as this node is on standby. The first active node stores it, perhaps
/// later. Runs forever.
async fn read_key(options: &ServiceOptions, state: &StandbyState) -> Infallible {
    let [mut pause, later] = KEY_EVERY;
    loop {
        // It does not change, so one that cannot be read now is still right.
        if let Some(key) = options.load_node_key().await {
            state.set_key(key);
            pause = later;
        }
        sleep(pause).await;
    }
}

/// Stops waiting for the active node after a while. Runs forever.
async fn stop_waiting(state: &StandbyState) -> Infallible {
    sleep(LAST_RESPONSES).await;
    state.stop();
    std::future::pending().await
}

/// Runs until this node is active and the service has started, until `stop` completes, or until something fails.
pub async fn run(
    base: &mut Base,
    node: &mut Node,
    Standby { state, server }: Standby,
    stop: Pin<&mut impl Future<Output = Signals>>,
    manager: &ServiceManager,
    on_crash: fn(),
) -> Result<StandbyEnd, AppError> {
    let handle = server.handle();
    let mut server = std::pin::pin!(server);
    let renewing = renew(base.certificates.clone());
    let (view, options) = (node.view(), base.options.clone());
    let event = tokio::select! {
        _ = stop => {
            manager.stopping();
            base.close();
            tokio::select! {
                () = stop_server(handle, server, STOP_LIMIT) => {}
                never = stop_waiting(&state) => match never {},
            }
            tracing::info!("stopped");
            return Ok(StandbyEnd::Exit(Exit::Ok));
        }
        event = take_over(node) => event,
        never = renewing => match never {},
        never = state.watch() => match never {},
        never = read_key(&options, &state) => match never {},
        never = manager.run_standby(view) => match never {},
        never = base.token.clone().watch() => match never {},
        ended = &mut server => {
            return ended.map(|()| StandbyEnd::Exit(Exit::Failed)).map_err(AppError::Server);
        }
    };
    match event {
        Event::Started(service, term) => {
            let service = *service;
            let api = match base.serve(&service, Some(node.view())) {
                Ok(api) => api,
                Err(error) => {
                    service.stop().await;
                    return Err(error);
                }
            };
            stop_server(handle, server, STOP_LIMIT).await;
            Ok(StandbyEnd::Active(Box::new(Active { service, api, term: Some(term) })))
        }
        Event::Ended(NodeEnd::Crashed(actor)) => {
            on_crash();
            Ok(StandbyEnd::Exit(crashed(actor, &handle).await))
        }
        Event::Ended(NodeEnd::Duplicate(error)) | Event::Failed(error) => Err(error.into()),
    }
}
