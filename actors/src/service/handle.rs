//! The addresses of the running service.

use actix::Recipient;

use crate::{
    domain::{clock::Clock, links::Links},
    messages::{
        cameras::{DeleteCamera, GetCamera, ListCameras, PutCamera, SetCameraStatus},
        config::{GetSettings, ProvideBroker, ReplaceSettings, TestConnection},
        discovery::PublishDiscovery,
        history::{GetHistory, GetOutages},
        outbox::{
            AwaitCommit, Decide, DecideAll, GetEvent, GetOutbox, ListEvents, PublishBatch, PublishEvent,
        },
        replay::{CancelReplay, CreateReplay, GetReplay, ListReplays},
        search::{CountEvents, MeasureLog},
        stream::OpenStream,
        supervisor::{GetStatus, PublishTestMessage, ReconnectNow, ReportWarnings},
        thumbnails::{GetPictureStock, GetThumbnail, GetThumbnailAt, GetThumbnailVersions, PutThumbnail},
        tokens::{Authenticate, CreateToken, EndSessions, ListTokens, RevokeToken},
    },
    metrics::Metrics,
};

/// The addresses of the running service, one recipient per request. It is cheap to clone, and `Send`.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Accepts one event: all that a classifier needs.
    pub publish: Recipient<PublishEvent>,
    /// Accepts several events, all or none.
    pub publish_batch: Recipient<PublishBatch>,
    /// Lists events.
    pub list_events: Recipient<ListEvents>,
    /// Counts the events in each step of a period.
    pub count_events: Recipient<CountEvents>,
    /// Returns how many events the log has, and since when.
    pub measure_log: Recipient<MeasureLog>,
    /// Finds one event.
    pub get_event: Recipient<GetEvent>,
    /// Sends a dead event again, or dismisses it.
    pub decide: Recipient<Decide>,
    /// Retries or dismisses all dead events that match a filter.
    pub decide_all: Recipient<DecideAll>,
    /// Sends events of the log again.
    pub create_replay: Recipient<CreateReplay>,
    /// Lists the replays.
    pub list_replays: Recipient<ListReplays>,
    /// Finds one replay.
    pub get_replay: Recipient<GetReplay>,
    /// Stops a replay.
    pub cancel_replay: Recipient<CancelReplay>,
    /// Opens a live stream of changes.
    pub open_stream: Recipient<OpenStream>,
    /// Returns outages, and what became of their events.
    pub outages: Recipient<GetOutages>,
    /// Returns the points of the charts.
    pub history: Recipient<GetHistory>,
    /// Returns the status of the outbox.
    pub outbox: Recipient<GetOutbox>,
    /// Waits for the running commit.
    pub await_commit: Recipient<AwaitCommit>,
    /// Lists cameras.
    pub list_cameras: Recipient<ListCameras>,
    /// Finds one camera.
    pub get_camera: Recipient<GetCamera>,
    /// Registers or changes a camera.
    pub put_camera: Recipient<PutCamera>,
    /// Sets the status of a camera.
    pub set_camera_status: Recipient<SetCameraStatus>,
    /// Deletes a camera.
    pub delete_camera: Recipient<DeleteCamera>,
    /// Publishes discovery again.
    pub publish_discovery: Recipient<PublishDiscovery>,
    /// Returns the connection status.
    pub status: Recipient<GetStatus>,
    /// Replaces the warnings of the HTTP layer in the status.
    pub report_warnings: Recipient<ReportWarnings>,
    /// Publishes a test message.
    pub test_message: Recipient<PublishTestMessage>,
    /// Begins the next attempt to connect.
    pub reconnect: Recipient<ReconnectNow>,
    /// Returns the settings.
    pub settings: Recipient<GetSettings>,
    /// Replaces the settings.
    pub replace_settings: Recipient<ReplaceSettings>,
    /// Reports the broker that Home Assistant's Supervisor provides.
    pub provide_broker: Recipient<ProvideBroker>,
    /// Tests a connection.
    pub test_connection: Recipient<TestConnection>,
    /// Stores the picture of an event.
    pub put_thumbnail: Recipient<PutThumbnail>,
    /// Finds the picture of an event.
    pub get_thumbnail: Recipient<GetThumbnail>,
    /// Finds the picture of the event with this `seq`.
    pub get_thumbnail_at: Recipient<GetThumbnailAt>,
    /// Returns the versions of the pictures of events.
    pub thumbnail_versions: Recipient<GetThumbnailVersions>,
    /// Returns how many pictures there are.
    pub picture_stock: Recipient<GetPictureStock>,
    /// Looks up an API token.
    pub authenticate: Recipient<Authenticate>,
    /// Lists the API tokens.
    pub list_tokens: Recipient<ListTokens>,
    /// Creates an API token.
    pub create_token: Recipient<CreateToken>,
    /// Revokes an API token.
    pub revoke_token: Recipient<RevokeToken>,
    /// Stores that sessions of the page were ended.
    pub end_sessions: Recipient<EndSessions>,
    /// Verifies signed links to pictures.
    pub links: Links,
    /// The clock by which their age is measured.
    pub clock: Clock,
    /// All metrics.
    pub metrics: Metrics,
}
