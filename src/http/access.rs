//! Who may call an endpoint.

use liveobject_actors::domain::token::Scope;

/// Who may call an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anyone. No endpoint under `/api` is public.
    Anyone,
    /// Holders of a token with this scope.
    Holder(Scope),
    /// [`Access::Holder`], and holders of a signed link to this resource.
    HolderOrLink(Scope),
}
