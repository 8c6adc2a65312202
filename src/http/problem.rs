//! Converts every error into a response (RFC 9457). No other module chooses the status of an error.
//!
//! The status depends on what the client should do: correct the request (4xx), or repeat it later (503 with
//! `Retry-After`). Causes that the client cannot act on are logged and not sent.

use std::{borrow::Cow, fmt, time::Duration};

use actix::MailboxError;
use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{ALLOW, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use liveobject_actors::{
    FieldError, Invalid, PublishError,
    domain::{
        causes::with_causes,
        delivery::DecideError,
        event_log::QueryError,
        image::{ImageError, MAX_THUMBNAIL_BYTES},
        store_fault::StoreFault,
        token::{Scope, Scopes},
    },
    messages::{
        cameras::CameraError,
        config::ReplaceError,
        replay::ReplayError,
        stream::StreamError,
        thumbnails::ThumbnailError,
        tokens::{CreateTokenError, RevokeTokenError, TokensUnavailable},
    },
};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::log_limit::LogLimit;
use crate::backup::{BackupError, RestoreError, UploadError};

pub(super) const CONTENT_TYPE: &str = "application/problem+json";

// A hostile input can have errors in thousands of fields; the first ones are enough to correct an input.
pub(super) const MAX_ERRORS: usize = 100;
const MAX_FIELD_CHARS: usize = 160;

// Long enough for the broker to accept a part of the backlog, or for the database to recover.
const RETRY_LATER: u32 = 5;
const RETRY_SOON: u32 = 1;

const OUTCOME_UNKNOWN: &str =
    "the request may have been processed; it is safe to send an event again with the same event_id";

/// An error response.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    /// A header that belongs to the status.
    header: Option<(HeaderName, Cow<'static, str>)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), header: None }
    }

    pub(super) fn not_json(cause: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("the body is not valid JSON: {cause}"))
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "this request needs a valid token in the header `Authorization: Bearer TOKEN`; \
                      `liveobject token` prints the admin token";
        Self::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// The token is valid, but lacks the required scope.
    pub(super) fn lacks(scope: Scope, has: &Scopes) -> Self {
        let detail = format!("this request needs a token with the scope `{scope}`; this one has `{has}`");
        Self::new(StatusCode::FORBIDDEN, detail)
            .with(WWW_AUTHENTICATE, format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""))
    }

    /// Too many logins from this address have failed.
    pub(super) fn too_many_failures(seconds: u32) -> Self {
        let detail = "too many failed logins from this address; try again later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).with(RETRY_AFTER, seconds.to_string())
    }

    /// The request was sent to a host name that is not known.
    pub(super) fn unknown_host() -> Self {
        let detail = "the host name in `Host` is not known to the service; use its IP address, or add the \
                      name to allowed_hosts in [http] of the configuration";
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no resource at this path")
    }

    pub(super) fn method_not_allowed(allow: String) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not support this method").with(ALLOW, allow)
    }

    pub(super) fn too_large(max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max} bytes"))
    }

    /// The body arrived too slowly while others waited.
    pub(super) fn too_slow() -> Self {
        Self::unavailable("the body arrived too slowly while other clients waited; try again", RETRY_LATER)
    }

    /// The request cannot be processed now; it may succeed after this many seconds.
    pub(super) fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, retry_after.to_string())
    }

    /// The database could not be read or written. The cause is in the log, unless another node takes the request.
    fn storage(fault: StoreFault, detail: impl Into<Cow<'static, str>>) -> Self {
        if fault == StoreFault::NotOwner {
            return Self::taken_over();
        }
        Self::unavailable(detail, RETRY_LATER)
    }

    /// Another node is active. The request may have been processed.
    pub(super) fn taken_over() -> Self {
        Self::unavailable("another node owns the event log; repeat the request", RETRY_SOON)
    }

    /// An actor did not reply within `timeout`.
    pub(super) fn no_response(message: &'static str, timeout: Duration) -> Self {
        static LIMIT: LogLimit = LogLimit::new();
        if let Some(not_logged) = LIMIT.permits(Instant::now()) {
            let (sent, timeout_ms) = (message, timeout.as_millis());
            tracing::warn!(sent, timeout_ms, not_logged, "an actor did not reply in time");
        }
        Self::unavailable(format!("no response in time: {OUTCOME_UNKNOWN}"), RETRY_LATER)
    }

    /// The connection to the active node, to which a request was forwarded, has ended.
    pub(super) fn forwarding_failed(node: &str) -> Self {
        Self::unavailable(format!("the active node {node} did not respond: {OUTCOME_UNKNOWN}"), RETRY_SOON)
    }

    /// Some fields are invalid: these, at most [`MAX_ERRORS`], and this many more.
    pub(super) fn invalid(mut errors: Vec<FieldError>, more: usize) -> Self {
        if more > 0 {
            errors.push(FieldError { field: String::new(), message: format!("and {more} more errors") });
        }
        let detail = "some fields are invalid; nothing was changed or accepted";
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    #[cfg(test)]
    pub(super) fn number_of_errors(&self) -> usize {
        self.errors.len()
    }

    fn with(self, name: HeaderName, value: impl Into<Cow<'static, str>>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

impl From<Invalid> for Problem {
    fn from(Invalid(mut errors): Invalid) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        Self::invalid(errors.into_iter().map(shortened).collect(), more)
    }
}

/// Returns the error with a name of bounded length.
pub(super) fn shortened(mut error: FieldError) -> FieldError {
    if let Some((end, _)) = error.field.char_indices().nth(MAX_FIELD_CHARS) {
        error.field.replace_range(end.., "…");
        // The name may be much longer than what is kept of it.
        error.field.shrink_to_fit();
    }
    error
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full { .. } | PublishError::Stopping => {
                Self::unavailable(error.to_string(), RETRY_LATER)
            }
            PublishError::Busy => Self::unavailable(error.to_string(), RETRY_SOON),
            // The outbox logs the cause once, and at the end how many events were refused.
            PublishError::Storage(fault) => {
                Self::storage(fault, format!("the database could not store it: {OUTCOME_UNKNOWN}"))
            }
            PublishError::Thumbnail(error) => error.into(),
        }
    }
}

impl From<BackupError> for Problem {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Busy => Self::new(StatusCode::CONFLICT, error.to_string()),
            BackupError::NoSpace { .. } => Self::unavailable(error.to_string(), RETRY_LATER),
            // The cause is in the log.
            _ => Self::unavailable("the backup could not be made; see the service's log", RETRY_LATER),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Busy => Self::new(StatusCode::CONFLICT, error.to_string()),
            UploadError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            UploadError::NoSpace { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            UploadError::Interrupted => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            // The client has to send another archive.
            UploadError::Refused(
                RestoreError::Damaged(_)
                | RestoreError::Newer(_)
                | RestoreError::NewerDatabase(_)
                | RestoreError::Managed,
            ) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
            // The cause is in the log.
            UploadError::Refused(_) | UploadError::Write(_) => Self::unavailable(
                "the backup could not be stored or checked; see the service's log",
                RETRY_LATER,
            ),
        }
    }
}

impl From<ThumbnailError> for Problem {
    fn from(error: ThumbnailError) -> Self {
        match error {
            ThumbnailError::UnknownEvent => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            ThumbnailError::Image(ImageError::TooLarge { .. }) => Self::too_large(MAX_THUMBNAIL_BYTES),
            ThumbnailError::Image(ImageError::NotAPicture) => {
                Invalid::one("thumbnail", error.to_string()).into()
            }
            ThumbnailError::Busy => Self::unavailable(error.to_string(), RETRY_SOON),
            ThumbnailError::Storage(fault) => {
                Self::storage(fault, "the picture could not be stored; see the service's log")
            }
        }
    }
}

impl From<QueryError> for Problem {
    fn from(QueryError(fault): QueryError) -> Self {
        Self::storage(fault, "the database cannot be read; see the service's log")
    }
}

impl From<DecideError> for Problem {
    fn from(error: DecideError) -> Self {
        match error {
            DecideError::Unknown => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            DecideError::NotDead => Self::new(StatusCode::CONFLICT, error.to_string()),
            DecideError::TooMany | DecideError::Stopping => Self::unavailable(error.to_string(), RETRY_LATER),
            DecideError::Storage(fault) => {
                Self::storage(fault, "the change may not have been stored; see the service's log")
            }
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Invalid(invalid) => invalid.into(),
            ReplayError::Unknown => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            ReplayError::TooMany => Self::new(StatusCode::CONFLICT, error.to_string()),
            ReplayError::Stopping => Self::unavailable(error.to_string(), RETRY_LATER),
            ReplayError::Storage(fault) => {
                Self::storage(fault, "the replay may not have been stored; see the service's log")
            }
        }
    }
}

impl From<StreamError> for Problem {
    fn from(error: StreamError) -> Self {
        Self::unavailable(error.to_string(), RETRY_LATER)
    }
}

impl From<ReplaceError> for Problem {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Invalid(invalid) => invalid.into(),
            // Repeating the request does not help. The operator has to act; the text explains how.
            ReplaceError::Managed | ReplaceError::Provided(_) | ReplaceError::Identity(_) => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            ReplaceError::Changed => Self::new(StatusCode::PRECONDITION_FAILED, error.to_string()),
            ReplaceError::Storage(fault) => {
                Self::storage(fault, "the settings could not be stored; see the service's log")
            }
        }
    }
}

impl From<CameraError> for Problem {
    fn from(error: CameraError) -> Self {
        match error {
            CameraError::Unknown => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            CameraError::Invalid(invalid) => invalid.into(),
            CameraError::TooMany { .. } => Self::new(StatusCode::CONFLICT, error.to_string()),
            CameraError::Storage(QueryError(fault)) => {
                Self::storage(fault, "the change could not be stored; see the service's log")
            }
        }
    }
}

impl From<TokensUnavailable> for Problem {
    fn from(TokensUnavailable(fault): TokensUnavailable) -> Self {
        Self::storage(fault, "the database cannot be read; see the service's log")
    }
}

impl From<CreateTokenError> for Problem {
    fn from(error: CreateTokenError) -> Self {
        match error {
            CreateTokenError::Exists(_) | CreateTokenError::TooMany => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            CreateTokenError::Storage(fault) => {
                Self::storage(fault, "the token could not be created; see the service's log")
            }
            CreateTokenError::Random(_) => {
                Self::unavailable("the token could not be created; see the service's log", RETRY_LATER)
            }
        }
    }
}

impl From<RevokeTokenError> for Problem {
    fn from(error: RevokeTokenError) -> Self {
        match error {
            RevokeTokenError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            RevokeTokenError::Storage(fault) => Self::storage(
                fault,
                "the token may still be valid; revoke it again, and see the service's log",
            ),
        }
    }
}

impl From<MailboxError> for Problem {
    fn from(error: MailboxError) -> Self {
        tracing::warn!(error = %with_causes(&error), "an actor has stopped");
        Self::unavailable(format!("the service is stopping or restarting: {OUTCOME_UNKNOWN}"), RETRY_LATER)
    }
}

/// An error (RFC 9457). Its kind is given by the status alone.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    #[schema(example = "about:blank")]
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, and what to do about it.
    detail: &'a str,
    /// The invalid fields: at most 100, followed by the number of further ones.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<FieldError>, max_items = 101)]
    errors: &'a [FieldError],
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some((name, value)) = &self.header {
            response.insert_header((name, value.as_ref()));
        }
        response.content_type(CONTENT_TYPE).json(ProblemBody {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            detail: &self.detail,
            errors: &self.errors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry_after(problem: impl Into<Problem>) -> (u16, String) {
        let response = problem.into().error_response();
        let seconds = response.headers().get(RETRY_AFTER).map_or("none", |v| v.to_str().unwrap());
        (response.status().as_u16(), seconds.to_owned())
    }

    #[test]
    fn temporary_failures_have_a_retry_after() {
        let full = PublishError::Full { pending: 7, max_pending: 7 };
        assert_eq!(retry_after(full), (503, "5".to_owned()));
        assert_eq!(retry_after(PublishError::Busy), (503, "1".to_owned()));
        assert_eq!(retry_after(PublishError::Storage(StoreFault::DiskFull)), (503, "5".to_owned()));
        assert_eq!(retry_after(PublishError::Stopping), (503, "5".to_owned()));
        assert_eq!(retry_after(ThumbnailError::Busy), (503, "1".to_owned()));
        assert_eq!(
            retry_after(PublishError::Thumbnail(ThumbnailError::Storage(StoreFault::Other))),
            (503, "5".to_owned())
        );
        assert_eq!(retry_after(QueryError(StoreFault::Locked)), (503, "5".to_owned()));
        assert_eq!(retry_after(ReplaceError::Storage(StoreFault::Locked)), (503, "5".to_owned()));
        assert_eq!(retry_after(MailboxError::Closed), (503, "5".to_owned()));
        assert_eq!(retry_after(ReplaceError::Identity("is missing".into())), (409, "none".to_owned()));
    }

    #[test]
    fn a_request_that_another_node_takes_is_repeated_soon() {
        const FAULT: StoreFault = StoreFault::NotOwner;
        for problem in [
            Problem::from(PublishError::Storage(FAULT)),
            ThumbnailError::Storage(FAULT).into(),
            QueryError(FAULT).into(),
            DecideError::Storage(FAULT).into(),
            ReplayError::Storage(FAULT).into(),
            ReplaceError::Storage(FAULT).into(),
            CameraError::Storage(QueryError(FAULT)).into(),
            TokensUnavailable(FAULT).into(),
            CreateTokenError::Storage(FAULT).into(),
            RevokeTokenError::Storage(FAULT).into(),
        ] {
            assert!(problem.detail.contains("another node"), "{problem}");
            assert_eq!(retry_after(problem), (503, "1".to_owned()));
        }
    }

    #[test]
    fn causes_are_not_sent_to_clients() {
        let problem = Problem::from(PublishError::Storage(StoreFault::DiskFull));
        assert!(!problem.detail.contains("full"), "{problem}");
    }

    #[test]
    fn the_list_of_errors_is_bounded_and_ends_with_the_number_of_others() {
        let fault = FieldError { field: "ü".repeat(1000), message: "unknown field".to_owned() };
        let problem = Problem::from(Invalid(vec![fault; 250]));
        assert_eq!(problem.errors.len(), MAX_ERRORS + 1);
        assert_eq!(problem.errors[MAX_ERRORS].message, "and 150 more errors");
        assert_eq!(problem.errors[0].field.chars().count(), MAX_FIELD_CHARS + 1);
    }
}
