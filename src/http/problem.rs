//! The one place where an error becomes a status (RFC 9457).
//!
//! A status is chosen by what the reader will do: correct the request (4xx), or send it again later (503 with
//! `Retry-After`). Causes that the reader cannot act on go to the log.

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
        delivery::DecideError,
        event_log::QueryError,
        image::{ImageError, MAX_THUMBNAIL_BYTES},
        token::{Scope, Scopes},
    },
    messages::{
        cameras::CameraError,
        config::ReplaceError,
        stream::StreamError,
        thumbnails::ThumbnailError,
        tokens::{CreateTokenError, RevokeTokenError, TokensUnavailable},
    },
};
use serde::Serialize;

pub(super) const CONTENT_TYPE: &str = "application/problem+json";

// A hostile input has a fault in each of its thousands of fields; who mends it reads the first ones.
const MAX_ERRORS: usize = 100;
const MAX_FIELD_CHARS: usize = 160;

// Long enough for a broker to take some of the backlog, or for a database to come back.
const RETRY_LATER: u32 = 5;
const RETRY_SOON: u32 = 1;

const NOT_KNOWN: &str = "not known to be accepted; send it again with the same event_id, it cannot double";

/// An error as the API answers it.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    /// The header that goes with the status.
    header: Option<(HeaderName, Cow<'static, str>)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new(), header: None }
    }

    pub(super) fn not_json(cause: impl fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {cause}"))
    }

    pub(super) fn unauthorized() -> Self {
        let detail =
            "this call needs the header `Authorization: Bearer TOKEN`; `liveobject token` shows the token";
        Self::new(StatusCode::UNAUTHORIZED, detail).with(WWW_AUTHENTICATE, "Bearer")
    }

    pub(super) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// The token is good, but not for this.
    pub(super) fn lacks(scope: Scope, has: &Scopes) -> Self {
        let detail = format!("this call needs a token with the scope `{scope}`; this one has `{has}`");
        Self::new(StatusCode::FORBIDDEN, detail)
            .with(WWW_AUTHENTICATE, format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\""))
    }

    /// This address showed too many wrong tokens.
    pub(super) fn too_many_failures(seconds: u32) -> Self {
        let detail = "too many wrong tokens from this address; no other one is looked at for now";
        Self::new(StatusCode::TOO_MANY_REQUESTS, detail).with(RETRY_AFTER, seconds.to_string())
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this address")
    }

    pub(super) fn method_not_allowed(allow: String) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not answer to this method")
            .with(ALLOW, allow)
    }

    pub(super) fn too_large(max: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {max} bytes"))
    }

    /// For now it cannot be done; after so many seconds it may.
    pub(super) fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with(RETRY_AFTER, retry_after.to_string())
    }

    /// An actor took longer than `patience`.
    pub(super) fn no_answer(message: &'static str, patience: Duration) -> Self {
        tracing::warn!(message, patience_ms = patience.as_millis(), "an actor did not answer in time");
        Self::unavailable(format!("no answer in time: {NOT_KNOWN}"), RETRY_LATER)
    }

    fn with(self, name: HeaderName, value: impl Into<Cow<'static, str>>) -> Self {
        Self { header: Some((name, value.into())), ..self }
    }
}

impl From<Invalid> for Problem {
    fn from(Invalid(mut errors): Invalid) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        if more > 0 {
            errors.push(FieldError { field: String::new(), message: format!("and {more} more faults") });
        }
        for error in &mut errors {
            if let Some((end, _)) = error.field.char_indices().nth(MAX_FIELD_CHARS) {
                error.field.replace_range(end.., "…");
            }
        }
        let detail = "fields are at fault; nothing was changed or accepted";
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Full { .. } | PublishError::Stopping => {
                Self::unavailable(error.to_string(), RETRY_LATER)
            }
            PublishError::Busy => Self::unavailable(error.to_string(), RETRY_SOON),
            // The outbox logs the cause once, and at the end how many events were refused.
            PublishError::Storage(_) => {
                Self::unavailable(format!("the database did not take it: {NOT_KNOWN}"), RETRY_LATER)
            }
            PublishError::Thumbnail(error) => error.into(),
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
            ThumbnailError::Storage(_) => {
                Self::unavailable("the picture was not stored; the log says why", RETRY_LATER)
            }
        }
    }
}

impl From<QueryError> for Problem {
    fn from(_: QueryError) -> Self {
        Self::unavailable("the database did not answer; the log says why", RETRY_LATER)
    }
}

impl From<DecideError> for Problem {
    fn from(error: DecideError) -> Self {
        match error {
            DecideError::Unknown => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            DecideError::NotDead => Self::new(StatusCode::CONFLICT, error.to_string()),
            DecideError::TooMany | DecideError::Stopping => Self::unavailable(error.to_string(), RETRY_LATER),
            DecideError::Storage(_) => {
                let detail = "the database did not take the decision, or it is not known; the log says why";
                Self::unavailable(detail, RETRY_LATER)
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
            // Nobody but the operator can mend it, and the text says how: sending it again would not help.
            ReplaceError::Identity(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            ReplaceError::Storage(_) => {
                Self::unavailable("the database did not take the settings; the log says why", RETRY_LATER)
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
            CameraError::Storage(_) => {
                Self::unavailable("the database did not take the change; the log says why", RETRY_LATER)
            }
        }
    }
}

impl From<TokensUnavailable> for Problem {
    fn from(_: TokensUnavailable) -> Self {
        Self::unavailable("the database did not answer; the log says why", RETRY_LATER)
    }
}

impl From<CreateTokenError> for Problem {
    fn from(error: CreateTokenError) -> Self {
        match error {
            CreateTokenError::Exists(_) | CreateTokenError::TooMany => {
                Self::new(StatusCode::CONFLICT, error.to_string())
            }
            CreateTokenError::Random(_) | CreateTokenError::Storage(_) => {
                Self::unavailable("the token was not made; the log says why", RETRY_LATER)
            }
        }
    }
}

impl From<RevokeTokenError> for Problem {
    fn from(error: RevokeTokenError) -> Self {
        match error {
            RevokeTokenError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            RevokeTokenError::Storage(_) => {
                Self::unavailable("the token may still hold: revoke it again; the log says why", RETRY_LATER)
            }
        }
    }
}

impl From<MailboxError> for Problem {
    fn from(error: MailboxError) -> Self {
        tracing::warn!(%error, "an actor is gone");
        Self::unavailable(format!("the service is stopping or starting anew: {NOT_KNOWN}"), RETRY_LATER)
    }
}

/// The body of a problem. The status says what kind it is; there are no types beyond it.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
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
        response.content_type(CONTENT_TYPE).json(Body {
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
    use liveobject_actors::domain::store_fault::StoreFault;

    use super::*;

    fn retry_after(problem: impl Into<Problem>) -> (u16, String) {
        let response = problem.into().error_response();
        let seconds = response.headers().get(RETRY_AFTER).map_or("none", |v| v.to_str().unwrap());
        (response.status().as_u16(), seconds.to_owned())
    }

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
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
    fn causes_stay_in_the_log() {
        let problem = Problem::from(PublishError::Storage(StoreFault::DiskFull));
        assert!(!problem.detail.contains("full"), "{problem}");
    }

    #[test]
    fn the_list_of_faults_is_bounded_and_says_so() {
        let fault = FieldError { field: "ü".repeat(1000), message: "unknown field".to_owned() };
        let problem = Problem::from(Invalid(vec![fault; 250]));
        assert_eq!(problem.errors.len(), MAX_ERRORS + 1);
        assert_eq!(problem.errors[MAX_ERRORS].message, "and 150 more faults");
        assert_eq!(problem.errors[0].field.chars().count(), MAX_FIELD_CHARS + 1);
    }
}
