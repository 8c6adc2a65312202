//! The location of a PostgreSQL database: parses the URL. Errors do not repeat it, because it may contain a password.

use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

/// Where a database is, and how to log in.
#[derive(Debug, Clone)]
pub struct Location {
    pub user: String,
    pub password: Option<SecretString>,
    pub host: Host,
    pub port: u16,
    pub database: String,
    pub tls: Tls,
    /// The certificate authorities, in addition to those of the system, as a file in PEM format.
    pub authorities: Option<PathBuf>,
}

/// The address of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name or an address.
    Name(String),
    /// The directory of the server's socket on this machine.
    Socket(PathBuf),
}

/// Whether the connection is encrypted, and what is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// It is not encrypted.
    Off,
    /// It is encrypted, but the server may be another one.
    Unverified,
    /// An authority has signed the certificate.
    Authority,
    /// An authority has signed the certificate, and it is for this host.
    Verified,
}

const SCHEMES: [&str; 2] = ["postgres://", "postgresql://"];
const DEFAULT_PORT: u16 = 5432;

impl Location {
    /// Returns whether a URL is meant to be that of a PostgreSQL server.
    pub fn is_url(url: &str) -> bool {
        SCHEMES.iter().any(|scheme| url.starts_with(scheme))
    }

    /// Parses `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE&sslrootcert=FILE`. The password, the port and
    /// the options may be left out. A host that begins with `/`, written as `%2F`, is the directory of a socket.
    ///
    /// Without `sslmode`, the server is verified, unless it is on this machine.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = SCHEMES.iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or("does not begin with `postgres://`")?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = authority.rsplit_once('@').ok_or("does not contain a user")?;
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "password")?)),
            None => (login, None),
        };
        let (host, port) = split_address(address)?;
        let host = match decoded(host, "host")? {
            directory if directory.starts_with('/') => Host::Socket(directory.into()),
            name => Host::Name(name),
        };
        let (user, database) = (decoded(user, "user")?, decoded(database, "name of the database")?);
        for (text, what) in [(&user, "a user"), (&database, "the name of a database")] {
            if text.is_empty() {
                return Err(format!("does not contain {what}"));
            }
        }
        let is_near = match &host {
            Host::Socket(_) => true,
            Host::Name(name) => {
                name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
        };
        let tls = if is_near { Tls::Off } else { Tls::Verified };
        let password = password.map(SecretString::from);
        let mut location = Self { user, password, host, port, database, tls, authorities: None };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            location.set_option(option)?;
        }
        Ok(location)
    }

    fn set_option(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = decoded(value, "options")?;
        match name {
            "sslmode" => {
                self.tls = match value.as_str() {
                    "disable" => Tls::Off,
                    "require" => Tls::Unverified,
                    "verify-ca" => Tls::Authority,
                    "verify-full" => Tls::Verified,
                    _ => {
                        let modes = "`disable`, `require`, `verify-ca` and `verify-full`";
                        return Err(format!("has an unknown value of `sslmode`; known are {modes}"));
                    }
                }
            }
            "sslrootcert" => self.authorities = Some(value.into()),
            _ => return Err("has an unknown option; known are `sslmode` and `sslrootcert`".to_owned()),
        }
        Ok(())
    }

    /// Returns the password.
    pub fn password(&self) -> Option<&str> {
        self.password.as_ref().map(SecretString::expose_secret)
    }
}

/// Names the database and its server, without the password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(host) => write!(f, "{} on {host}:{}", self.database, self.port),
            Host::Socket(directory) => {
                write!(f, "{} at {}:{}", self.database, directory.display(), self.port)
            }
        }
    }
}

/// Splits `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn split_address(address: &str) -> Result<(&str, u16), String> {
    if address.contains(',') {
        return Err(
            "names several hosts, which is not supported: name the one of the primary server".to_owned()
        );
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("has a `[` without a `]`")?;
            let port = rest.strip_prefix(':');
            if port.is_none() && !rest.is_empty() {
                return Err("has text other than a port after the `]`".to_owned());
            }
            (host, port)
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err("does not contain a host".to_owned());
    }
    let port = match port {
        Some(port) => {
            port.parse().ok().filter(|port| *port > 0).ok_or("has a port that is not a number up to 65535")?
        }
        None => DEFAULT_PORT,
    };
    Ok((host, port))
}

/// Decodes `%2F` and the like.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let fault =
        || format!("has a `%` in the {what} without two hexadecimal digits after it; write `%25` for `%`");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        bytes.push(u8::from_str_radix(digits.ok_or_else(fault)?, 16).map_err(|_| fault())?);
        rest = &rest[2..];
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("has a {what} that is not valid UTF-8"))?;
    if text.contains('\0') { Err(format!("has a NUL character in the {what}")) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_a_url_are_read() {
        let url =
            "postgres://us%40er:p%3Aa%2Fss@db.example:6000/li%20ve?sslmode=verify-ca&sslrootcert=/a%26b.pem";
        let location = Location::parse(url).unwrap();
        assert_eq!((location.user.as_str(), location.password()), ("us@er", Some("p:a/ss")));
        assert_eq!((location.host.clone(), location.port), (Host::Name("db.example".to_owned()), 6000));
        assert_eq!((location.database.as_str(), location.tls), ("li ve", Tls::Authority));
        assert_eq!(location.authorities.as_deref(), Some("/a&b.pem".as_ref()));
        assert_eq!(location.to_string(), "li ve on db.example:6000");
        assert!(!format!("{location:?}").contains("p:a/ss"));
    }

    #[test]
    fn the_server_is_verified_unless_it_is_on_this_machine() {
        for (address, host, port, tls) in [
            ("db", Host::Name("db".to_owned()), 5432, Tls::Verified),
            ("192.168.1.2:1", Host::Name("192.168.1.2".to_owned()), 1, Tls::Verified),
            ("localhost", Host::Name("localhost".to_owned()), 5432, Tls::Off),
            ("127.0.0.1", Host::Name("127.0.0.1".to_owned()), 5432, Tls::Off),
            ("[::1]:65535", Host::Name("::1".to_owned()), 65535, Tls::Off),
            ("%2Frun%2Fpostgresql", Host::Socket("/run/postgresql".into()), 5432, Tls::Off),
        ] {
            let location = Location::parse(&format!("postgresql://u@{address}/d")).unwrap();
            assert_eq!((location.host, location.port, location.tls), (host, port, tls));
            assert!(location.password.is_none());
        }
    }

    #[test]
    fn a_fault_is_named_and_the_url_is_not_repeated() {
        for (url, fault) in [
            ("postgres://db/d", "does not contain a user"),
            ("postgres://:hunter2@db/d", "does not contain a user"),
            ("postgres://u:hunter2@/d", "does not contain a host"),
            ("postgres://u:hunter2@db", "does not contain the name of a database"),
            ("postgres://u:hunter2@db:x/d", "a port that is not a number"),
            ("postgres://u:hunter2@db:70000/d", "a port that is not a number"),
            ("postgres://u:hunter2%@db/d", "a `%` in the password"),
            ("postgres://u:hunter2%e4@db/d", "a password that is not valid UTF-8"),
            ("postgres://u:hunter2@[::1/d", "a `[` without a `]`"),
            ("postgres://u:hunter2@[::1]hunter2/d", "after the `]`"),
            ("postgres://u@db/d?hunter2=%", "a `%` in the options"),
            ("postgres://u:hunter2@one,two/d", "several hosts"),
            ("postgres://u:hunter2@db/d?sslmode=prefer", "unknown value of `sslmode`"),
            ("postgres://u:hunter2@db/d?hunter2=1", "unknown option"),
        ] {
            let error = Location::parse(url).unwrap_err();
            assert!(error.contains(fault) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
