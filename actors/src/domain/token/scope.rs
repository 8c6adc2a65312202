//! Scopes: what a token permits.

use std::{collections::BTreeSet, fmt};

use serde::{Serialize, Serializer};

/// One thing that a token may permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Scope {
    /// Submitting what a source produces: events, their pictures and the status of its cameras.
    #[cfg_attr(feature = "openapi", schema(rename = "events:write"))]
    EventsWrite,
    /// Reading everything except the tokens.
    #[cfg_attr(feature = "openapi", schema(rename = "read"))]
    Read,
    /// Everything.
    #[cfg_attr(feature = "openapi", schema(rename = "admin"))]
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 3] = [Self::EventsWrite, Self::Read, Self::Admin];

    /// Returns the scope's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventsWrite => "events:write",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// Parses a scope's name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| "must be events:write, read or admin".to_owned())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// All scopes of a token. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    /// Creates the scopes that permit everything.
    pub fn admin() -> Self {
        Self(BTreeSet::from([Scope::Admin]))
    }

    /// Collects scopes and ignores duplicates. Fails if there are none.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, String> {
        let scopes: BTreeSet<_> = scopes.into_iter().collect();
        if scopes.is_empty() { Err("must contain at least one scope".to_owned()) } else { Ok(Self(scopes)) }
    }

    /// Parses the names of scopes.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let scopes: Result<Vec<_>, _> = names.into_iter().map(Scope::parse).collect();
        Self::of(scopes?)
    }

    /// Returns whether these scopes permit a request that needs `scope`.
    pub fn allow(&self, scope: Scope) -> bool {
        self.0.contains(&scope) || self.0.contains(&Scope::Admin)
    }
}

/// Formats the scopes separated by commas, always in the same order.
impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            write!(f, "{}{scope}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_permits_itself_and_admin_permits_everything() {
        for scope in Scope::ALL {
            let one = Scopes::of([scope]).unwrap();
            for needed in Scope::ALL {
                assert_eq!(one.allow(needed), scope == needed || scope == Scope::Admin, "{scope} {needed}");
            }
        }
        let both = Scopes::of([Scope::Read, Scope::EventsWrite]).unwrap();
        assert!(both.allow(Scope::Read) && both.allow(Scope::EventsWrite) && !both.allow(Scope::Admin));
    }

    #[test]
    fn formatted_scopes_can_be_parsed_again() {
        for text in ["events:write", "read", "admin", "events:write,read", "events:write,read,admin"] {
            assert_eq!(Scopes::parse(text.split(',')).unwrap().to_string(), text);
        }
        assert_eq!(Scopes::parse(["read", "events:write", "read"]).unwrap().to_string(), "events:write,read");
        for invalid in ["", "Read", "write", "read ", "*"] {
            assert!(Scopes::parse([invalid]).is_err(), "{invalid}");
        }
        assert!(Scopes::parse([]).is_err());
    }
}
