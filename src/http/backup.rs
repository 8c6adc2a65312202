//! A backup of the running service, as a download.

use std::io::{self, BufWriter, ErrorKind, Write};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode,
        header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    web::{Bytes, Data},
};
use futures_util::{Stream, stream};
use liveobject_actors::domain::{causes::with_causes, clock};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    headers::X_ACCEL_BUFFERING, problem::Problem, query, schema, service::DatabaseEngine, state::ApiState,
};
use crate::backup::{self, BackupError, Pace};

/// Why there is no backup of a database on a server.
pub(super) const ON_SERVER: &str = "the database is on a PostgreSQL server, so back it up with `pg_dump`, and copy the \
    data directory as well";
/// Size of the chunks in which an archive is sent.
const CHUNK_BYTES: usize = 64 * 1024;
/// How many chunks are buffered for a client that reads slowly. When the buffer is full, the archive's writer waits.
const CHUNKS: usize = 4;

/// Download a backup.
///
/// The archive contains the events, settings, pictures, and, unless `secrets` is `false`, the keys and tokens:
/// store it where nobody else can read it. `liveobject restore` restores it. The download is complete if the
/// response ends properly; it is aborted if an error occurs or the service stops. Only one backup can be made at
/// a time. While it is being made, it needs as much free disk space as the database takes up.
#[utoipa::path(
    get, path = "/api/v1/backup", tag = "operation", params(schema::BackupQuery),
    responses(
        (status = 200, description = "The archive", content((schema::Archive = "application/x-tar"))),
        (status = 409, description = "Another backup is being made, or the database is on a server"),
        (status = 422, description = "Some parameters are invalid"),
        (status = 503, description = "There is not enough space, or the disk or the database is unavailable"),
    ),
)]
pub(super) async fn download(state: Data<ApiState>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let secrets = with_secrets(request.query_string())?;
    let locations = state.backup.clone().ok_or_else(|| {
        let why = match state.database.engine {
            DatabaseEngine::Sqlite => "this service has no data directory that can be backed up",
            DatabaseEngine::Postgres => ON_SERVER,
        };
        Problem::new(StatusCode::CONFLICT, why)
    })?;
    let name = format!("liveobject-{}.tar", clock::now().format("%Y%m%dT%H%M%SZ"));
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "application/x-tar"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")))
        .insert_header((X_ACCEL_BUFFERING, "no"));
    if *request.method() == Method::HEAD {
        return Ok(response.finish());
    }
    let (sender, mut chunks) = mpsc::channel(CHUNKS);
    let out = BufWriter::with_capacity(CHUNK_BYTES, Sender(sender));
    #[expect(
        clippy::disallowed_methods,
        reason = "one at a time; the response awaits it, and it ends when its client is gone"
    )]
    let writing = actix_web::rt::spawn(backup::write(locations, secrets, out, Pace::new(state.stopping())));
    // Nothing is sent before the database has been copied, so most errors can still be returned as responses.
    match chunks.recv().await {
        Some(first) => Ok(response.streaming(body(Download {
            first: Some(first),
            chunks,
            writing: Some(writing),
            state,
        }))),
        None => match finish(writing).await {
            Ok(()) => Ok(response.finish()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Returns whether the keys and tokens are included.
fn with_secrets(text: &str) -> Result<bool, Problem> {
    let mut secrets = true;
    let read = query::read(text, |name, value, faults| {
        match (name, value.as_str()) {
            ("secrets", "true") => secrets = true,
            ("secrets", "false") => secrets = false,
            ("secrets", _) => faults.push("secrets", "must be true or false"),
            _ => return false,
        }
        true
    });
    read?.finish()?;
    Ok(secrets)
}

/// A download in progress.
struct Download {
    first: Option<Bytes>,
    chunks: mpsc::Receiver<Bytes>,
    /// `None` at the end.
    writing: Option<JoinHandle<Result<backup::BackupSummary, BackupError>>>,
    state: Data<ApiState>,
}

impl Download {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        // Afterwards, nobody reads the chunks any more, so the thread that writes the archive ends with an error.
        if self.state.is_stopping() {
            return self.writing.take().map(|_| Err(io::Error::other("the service is stopping")));
        }
        let chunk = match self.first.take() {
            Some(first) => Some(first),
            None => self.chunks.recv().await,
        };
        match chunk {
            Some(chunk) => Some(Ok(chunk)),
            // An error aborts the response, so that the client does not mistake a part for the whole archive.
            None => finish(self.writing.take()?).await.err().map(|error| Err(io::Error::other(error))),
        }
    }
}

fn body(download: Download) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(download, |mut download| async move { Some((download.next().await?, download)) })
}

/// Waits for the end of the archive, and logs the result.
async fn finish(writing: JoinHandle<Result<backup::BackupSummary, BackupError>>) -> Result<(), BackupError> {
    let written = writing.await.unwrap_or_else(|panic| Err(BackupError::Write(io::Error::other(panic))));
    match written {
        Ok(summary) => {
            let (events, pictures) = (summary.events, summary.pictures);
            tracing::info!(events, pictures, missing = ?summary.missing, "a backup was downloaded");
            Ok(())
        }
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "the backup for a download could not be made");
            Err(error)
        }
    }
}

/// A writer whose output is sent to the client. Writing fails if the client has disconnected.
struct Sender(mpsc::Sender<Bytes>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
