//! The process while it runs the service.

use std::{pin::Pin, time::Duration};

use actix_web::dev::ServerHandle;
use futures_util::future::join;
use liveobject_actors::{Node, NodeEnd, Service, domain::lease::Term};
use tokio::time::timeout;

use super::{
    AppError, Signals,
    base::{Api, Base, renew},
    crashed,
};
use crate::{cli::Exit, home_assistant::BrokerInquiry, http, service_manager::ServiceManager};

/// How long requests may take to be answered after another node has become active.
const LOST_STOP_LIMIT: Duration = Duration::from_secs(3);

/// The running service with its API.
pub struct Active {
    pub service: Service,
    pub api: Api,
    /// The period of ownership; `None` if only one service can use the database.
    pub term: Option<Term>,
}

/// Why the service does not run any more.
pub enum ActiveEnd {
    /// The process ends.
    Exit(Exit),
    /// Another node owns the event log. Contains the signals, if one has arrived that ends the process.
    Lost(Option<Signals>),
}

impl Active {
    /// Runs until `stop` completes, something fails, or another node owns the event log, and then stops the service.
    pub async fn run(
        self,
        base: &mut Base,
        node: Option<&mut Node>,
        mut stop: Pin<&mut impl Future<Output = Signals>>,
        manager: &ServiceManager,
        on_crash: fn(),
    ) -> Result<ActiveEnd, AppError> {
        let Self { mut service, api: Api { state, server, history }, term } = self;
        let handle = server.handle();
        let mut server = std::pin::pin!(server);
        let renewing = renew(base.certificates.clone());
        let actors = service.handle();
        let inquiry = BrokerInquiry::of(&base.config);
        let inquiring = async {
            match inquiry {
                Some(inquiry) => Box::pin(inquiry.run(actors.clone())).await,
                None => std::future::pending().await,
            }
        };
        let mut reporting = std::pin::pin!(manager.run(&actors));
        let mut signals = tokio::select! {
            signals = stop.as_mut() => signals,
            actor = service.crashed() => {
                on_crash();
                return Ok(ActiveEnd::Exit(crashed(actor, &handle).await));
            }
            lost = lost(node, term) => {
                if let Err(NodeEnd::Crashed(actor)) = lost {
                    on_crash();
                    return Ok(ActiveEnd::Exit(crashed(actor, &handle).await));
                }
                state.stop();
                let serving = async { timeout(LOST_STOP_LIMIT, join(handle.stop(true), server)).await };
                let mut stopping = std::pin::pin!(join(service.abandon(), serving));
                let signals = tokio::select! {
                    _ = stopping.as_mut() => None,
                    signals = stop => {
                        let _stopped = stopping.await;
                        Some(signals)
                    }
                };
                return match lost {
                    Err(NodeEnd::Duplicate(error)) => Err(error.into()),
                    _ => Ok(ActiveEnd::Lost(signals)),
                };
            }
            never = renewing => match never {},
            never = history.run() => match never {},
            never = inquiring => match never {},
            never = &mut reporting => match never {},
            never = base.token.clone().watch() => match never {},
            never = http::watch(state.clone()) => match never {},
            ended = &mut server => {
                service.stop().await;
                return ended.map(|()| ActiveEnd::Exit(Exit::Failed)).map_err(AppError::Server);
            }
        };
        manager.stopping();
        state.stop();
        base.close();
        // The server must be polled, or `handle.stop` never completes.
        let stopping = join(join(handle.stop(true), service.stop()), server);
        tokio::select! {
            _ = stopping => tracing::info!("stopped"),
            never = reporting => match never {},
            name = signals.stop() => exit_immediately(name),
        }
        Ok(ActiveEnd::Exit(Exit::Ok))
    }
}

/// Ends the process after a second signal.
pub fn exit_immediately(signal: &str) -> ! {
    tracing::warn!(signal, "second signal; exiting immediately");
    std::process::exit(i32::from(Exit::Failed as u8));
}

/// Waits until another node owns the event log.
async fn lost(node: Option<&mut Node>, term: Option<Term>) -> Result<(), NodeEnd> {
    match (node, term) {
        (Some(node), Some(term)) => node.inactive(term).await,
        _ => std::future::pending().await,
    }
}

/// Stops a server that has only short requests.
pub async fn stop_server(handle: ServerHandle, server: Pin<&mut actix_web::dev::Server>, within: Duration) {
    let _stopped = timeout(within, join(handle.stop(true), server)).await;
}
