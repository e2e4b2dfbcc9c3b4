//! The parameters of a connection, typed: which hosts, which of them may be used, and by which TLS.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::config::{ChannelBinding, SslNegotiation};

use super::conninfo::{Conninfo, ConninfoError};
use super::libpq::default_file;
use crate::servers::tls::{Check, ClientTls, Identity, Roots, Versions};

/// Folder of the socket where nothing names a host, as Debian compiles it into libpq.
const SOCKETS: &str = "/var/run/postgresql";

const DEFAULT_PORT: u16 = 5432;

/// The value of `sslrootcert` for the authorities of the operating system.
const SYSTEM_ROOTS: &str = "system";

/// Time limit for a socket where nothing states one.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A server that may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    /// Name, number, or folder of a socket.
    pub(crate) name: String,
    /// Number that makes looking the name up unnecessary.
    pub(crate) number: Option<IpAddr>,
    pub(crate) port: u16,
}

impl Host {
    pub(crate) fn is_socket(&self) -> bool {
        self.number.is_none() && self.name.starts_with('/')
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "host={}", self.name)?;
        if self.port == DEFAULT_PORT { Ok(()) } else { write!(f, " port={}", self.port) }
    }
}

/// Use of TLS, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    /// Without TLS; with it if the server insists.
    Allow,
    /// With TLS; without it if the server has none. The default.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Property that the session must have, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionAttributes {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl SessionAttributes {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

/// Probes of an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeepAlive {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
}

/// Everything that a connection needs, without passwords.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConnectOptions {
    pub(crate) hosts: Vec<Host>,
    pub(crate) is_random: bool,
    /// `None` where nothing states it.
    pub(crate) attributes: Option<SessionAttributes>,
    pub(crate) user: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) options: Option<String>,
    /// Time limit for the whole connecting to a host, where one is stated.
    pub(crate) limit: Option<Duration>,
    /// Time limit for the socket.
    pub(crate) socket_limit: Duration,
    /// `None`: no probes.
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) mode: SslMode,
    pub(crate) tls: ClientTls,
    pub(crate) negotiation: SslNegotiation,
    pub(crate) binding: ChannelBinding,
}

impl ConnectOptions {
    /// Types the parameters. Files of TLS that none of them names are looked for in `home`, and
    /// `user` connects if none is named.
    ///
    /// # Errors
    /// [`ConninfoError::Value`] naming the keyword.
    pub(super) fn new(given: &Conninfo, home: Option<&Path>, user: Option<&str>) -> Result<Self, ConninfoError> {
        let (hosts, mode) = (hosts(given)?, mode(given)?);
        // Files of TLS have no meaning for sockets of this machine.
        let is_local = hosts.iter().all(Host::is_socket);
        let tls = tls(given, home, if is_local { SslMode::Disable } else { mode })?;
        let limit = seconds(given, "connect_timeout")?.map(|limit| limit.max(Duration::from_secs(2)));
        let user = given.get("user").or(user).map(str::to_owned);
        let options = Self {
            hosts,
            is_random: word(given, "load_balance_hosts", "disable or random", &[("disable", false), ("random", true)])?
                .unwrap_or(false),
            attributes: word(
                given,
                "target_session_attrs",
                "any, read-write, read-only, primary, standby or prefer-standby",
                &[
                    ("any", SessionAttributes::Any),
                    ("read-write", SessionAttributes::ReadWrite),
                    ("read-only", SessionAttributes::ReadOnly),
                    ("primary", SessionAttributes::Primary),
                    ("standby", SessionAttributes::Standby),
                    ("prefer-standby", SessionAttributes::PreferStandby),
                ],
            )?,
            database: given.get("dbname").map(str::to_owned).or_else(|| user.clone()),
            user,
            options: given.get("options").map(str::to_owned),
            limit,
            socket_limit: limit.unwrap_or(CONNECT_LIMIT),
            keep_alive: keep_alive(given)?,
            user_timeout: number(given, "tcp_user_timeout")?.filter(|limit| *limit > 0).map(Duration::from_millis),
            mode,
            tls,
            negotiation: word(
                given,
                "sslnegotiation",
                "postgres or direct",
                &[("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)],
            )?
            .unwrap_or(SslNegotiation::Postgres),
            binding: word(
                given,
                "channel_binding",
                "disable, prefer or require",
                &[
                    ("disable", ChannelBinding::Disable),
                    ("prefer", ChannelBinding::Prefer),
                    ("require", ChannelBinding::Require),
                ],
            )?
            .unwrap_or(ChannelBinding::Prefer),
        };
        word(given, "gssencmode", "disable or prefer: there is no GSSAPI", &[("disable", ()), ("prefer", ())])?;
        let is_weak = matches!(mode, SslMode::Disable | SslMode::Allow | SslMode::Prefer);
        if options.negotiation == SslNegotiation::Direct && is_weak {
            let allowed = "postgres, unless sslmode is require, verify-ca or verify-full";
            return Err(ConninfoError::Value { keyword: "sslnegotiation", allowed });
        }
        Ok(options)
    }
}

/// Reads `sslmode`.
fn mode(given: &Conninfo) -> Result<SslMode, ConninfoError> {
    let modes = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Allow),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    let allowed = "disable, allow, prefer, require, verify-ca or verify-full";
    // As for libpq: with the authorities of the whole world, only the name distinguishes servers.
    let is_system = given.get("sslrootcert") == Some(SYSTEM_ROOTS);
    match word(given, "sslmode", allowed, &modes)? {
        None if is_system => Ok(SslMode::VerifyFull),
        Some(mode) if is_system && !matches!(mode, SslMode::VerifyFull | SslMode::Disable) => {
            Err(ConninfoError::Value { keyword: "sslmode", allowed: "verify-full with sslrootcert=system" })
        }
        mode => Ok(mode.unwrap_or(SslMode::Prefer)),
    }
}

/// Reads what TLS needs in a mode.
fn tls(given: &Conninfo, home: Option<&Path>, mode: SslMode) -> Result<ClientTls, ConninfoError> {
    let versions = versions(given)?;
    let names_host = word(given, "sslsni", "0 or 1", &[("0", false), ("1", true)])?.unwrap_or(true);
    if mode == SslMode::Disable {
        return Ok(ClientTls { check: Check::Nothing, identity: None, revoked: None, versions, names_host });
    }
    let file = |keyword, name| given.get(keyword).map(PathBuf::from).or_else(|| default_file(home, name));
    let roots = match given.get("sslrootcert") {
        Some(SYSTEM_ROOTS) => Some(Roots::Platform),
        _ => file("sslrootcert", "root.crt").map(Roots::File),
    };
    let check = match (mode, roots) {
        (SslMode::VerifyFull, roots) => Check::Host(roots.unwrap_or(Roots::Platform)),
        (_, Some(roots)) => Check::Authority(roots),
        (SslMode::VerifyCa, None) => {
            let allowed = "the file of the authority's certificates with sslmode=verify-ca";
            return Err(ConninfoError::Value { keyword: "sslrootcert", allowed });
        }
        (SslMode::Disable | SslMode::Allow | SslMode::Prefer | SslMode::Require, None) => Check::Nothing,
    };
    let certificate = file("sslcert", "postgresql.crt");
    let identity = match (certificate, file("sslkey", "postgresql.key")) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key, is_strict: true }),
        (Some(_), None) => {
            let allowed = "the key of sslcert, or of ~/.postgresql/postgresql.crt";
            return Err(ConninfoError::Value { keyword: "sslkey", allowed });
        }
        (None, _) => None,
    };
    let revoked = file("sslcrl", "root.crl").filter(|_| check != Check::Nothing);
    Ok(ClientTls { check, identity, revoked, versions, names_host })
}

/// Reads the versions of TLS that may be used.
fn versions(given: &Conninfo) -> Result<Versions, ConninfoError> {
    let versions = [("TLSv1", 1), ("TLSv1.1", 1), ("TLSv1.2", 2), ("TLSv1.3", 3)];
    let lowest = word(given, "ssl_min_protocol_version", "TLSv1.2 or TLSv1.3", &versions)?.unwrap_or(2);
    let highest = word(given, "ssl_max_protocol_version", "TLSv1.2 or TLSv1.3", &versions)?.unwrap_or(3);
    match (lowest.max(2), highest) {
        (2, 3) => Ok(Versions::Any),
        (2, 2) => Ok(Versions::Only12),
        (3, 3) => Ok(Versions::Only13),
        _ => {
            let allowed = "at least ssl_min_protocol_version, and TLSv1.2";
            Err(ConninfoError::Value { keyword: "ssl_max_protocol_version", allowed })
        }
    }
}

/// Pairs hosts, numbers and ports, as libpq does.
fn hosts(given: &Conninfo) -> Result<Vec<Host>, ConninfoError> {
    let list = |keyword| given.get(keyword).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (names, numbers, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.as_ref().or(numbers.as_ref()).map_or(1, Vec::len);
    let fits = |list: &Option<Vec<&str>>| list.as_ref().is_none_or(|list| list.len() == count);
    if !fits(&numbers) {
        return Err(ConninfoError::Value { keyword: "hostaddr", allowed: "one number for each host" });
    }
    if !fits(&ports) && ports.as_ref().is_some_and(|ports| ports.len() != 1) {
        return Err(ConninfoError::Value { keyword: "port", allowed: "one port, or one for each host" });
    }
    let at = |list: &Option<Vec<&str>>, index: usize| {
        let value = list.as_ref().and_then(|list| list.get(index).or_else(|| list.first()));
        value.filter(|value| !value.is_empty()).map(|value| (*value).to_owned())
    };
    (0..count)
        .map(|index| {
            let number: Option<IpAddr> = at(&numbers, index)
                .map(|number| number.parse())
                .transpose()
                .map_err(|_| ConninfoError::Value { keyword: "hostaddr", allowed: "an IP address" })?;
            let name = at(&names, index).or(number.map(|number| number.to_string()));
            let name = name.unwrap_or_else(|| SOCKETS.to_owned());
            // An unescaped @ in a password makes the rest of the password a part of the host.
            if !name.starts_with('/') && name.contains(['@', '/', ' ']) {
                return Err(ConninfoError::Form);
            }
            let invalid = ConninfoError::Value { keyword: "port", allowed: "a number from 1 to 65535" };
            let port = at(&ports, index).map_or(Ok(DEFAULT_PORT), |port| port.parse()).map_err(|_| invalid)?;
            if port == 0 { Err(invalid) } else { Ok(Host { name, number, port }) }
        })
        .collect()
}

fn keep_alive(given: &Conninfo) -> Result<Option<KeepAlive>, ConninfoError> {
    if number(given, "keepalives")? == Some(0) {
        return Ok(None);
    }
    let positive = |keyword, default: u64| Ok(number(given, keyword)?.filter(|value| *value > 0).unwrap_or(default));
    // A server that has gone is noticed after two minutes.
    let (idle, interval, count) =
        (positive("keepalives_idle", 60)?, positive("keepalives_interval", 10)?, positive("keepalives_count", 6)?);
    Ok(Some(KeepAlive {
        idle: Duration::from_secs(idle),
        interval: Duration::from_secs(interval),
        count: u32::try_from(count).unwrap_or(u32::MAX),
    }))
}

fn number(given: &Conninfo, keyword: &'static str) -> Result<Option<u64>, ConninfoError> {
    let parsed = given.get(keyword).map(str::trim).map(str::parse::<u32>).transpose();
    parsed
        .map(|number| number.map(u64::from))
        .map_err(|_| ConninfoError::Value { keyword, allowed: "a whole number, not negative" })
}

/// Reads a time limit. 0 and negative numbers mean that there is no limit.
fn seconds(given: &Conninfo, keyword: &'static str) -> Result<Option<Duration>, ConninfoError> {
    let parsed = given.get(keyword).map(str::trim).map(str::parse::<i32>).transpose();
    let parsed = parsed.map_err(|_| ConninfoError::Value { keyword, allowed: "a number of seconds" })?;
    Ok(parsed.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0).map(Duration::from_secs))
}

fn word<T: Copy>(
    given: &Conninfo,
    keyword: &'static str,
    allowed: &'static str,
    words: &[(&str, T)],
) -> Result<Option<T>, ConninfoError> {
    let Some(text) = given.get(keyword) else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| Some(*value)).ok_or(ConninfoError::Value { keyword, allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<ConnectOptions, String> {
        let given = Conninfo::parse(text).map_err(|error| error.to_string())?;
        ConnectOptions::new(&given, None, Some("me")).map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_numbers_and_ports_are_paired() {
        let hosts = |text: &str| {
            let hosts = options(text)?.hosts;
            Ok::<_, String>(hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        };
        assert_eq!(hosts("dbname=x").unwrap(), "host=/var/run/postgresql");
        assert_eq!(hosts("postgresql://a,b:7,[::1]").unwrap(), "host=a, host=b port=7, host=::1");
        assert_eq!(hosts("host=a,b port=9").unwrap(), "host=a port=9, host=b port=9");
        assert_eq!(hosts("hostaddr=127.0.0.1").unwrap(), "host=127.0.0.1");
        assert!(hosts("host=a,b hostaddr=127.0.0.1").unwrap_err().contains("hostaddr"));
        assert!(hosts("host=a,b port=1,2,3").unwrap_err().contains("port"));
        for port in ["0", "70000", "x"] {
            assert!(hosts(&format!("host=a port={port}")).unwrap_err().contains("port must be"), "{port}");
        }
    }

    #[test]
    fn the_mode_decides_what_is_checked() {
        let check = |text: &str| options(text).map(|options| (options.mode, options.tls.check));
        let file = || Roots::File("r".into());
        assert_eq!(check("host=h").unwrap(), (SslMode::Prefer, Check::Nothing));
        assert_eq!(check("host=h sslmode=require").unwrap(), (SslMode::Require, Check::Nothing));
        // A file of authorities is never ignored.
        assert_eq!(
            check("host=h sslmode=require sslrootcert=r").unwrap(),
            (SslMode::Require, Check::Authority(file()))
        );
        assert_eq!(
            check("host=h sslmode=verify-ca sslrootcert=r").unwrap(),
            (SslMode::VerifyCa, Check::Authority(file()))
        );
        assert_eq!(
            check("host=h sslmode=verify-full sslrootcert=r").unwrap(),
            (SslMode::VerifyFull, Check::Host(file()))
        );
        let platform = (SslMode::VerifyFull, Check::Host(Roots::Platform));
        assert_eq!(check("host=h sslmode=verify-full").unwrap(), platform);
        assert_eq!(check("host=h sslrootcert=system").unwrap(), platform);
        assert!(check("sslmode=require sslrootcert=system").unwrap_err().contains("verify-full"));
        assert!(check("host=h sslmode=verify-ca").unwrap_err().contains("sslrootcert"));
        assert!(check("sslmode=on").unwrap_err().contains("verify-full"));
        assert!(check("host=h sslcert=c").unwrap_err().contains("sslkey"));
        assert!(check("sslnegotiation=direct").unwrap_err().contains("sslmode"));
        assert!(check("gssencmode=require").unwrap_err().contains("GSSAPI"));
        assert!(check("ssl_max_protocol_version=TLSv1.1").unwrap_err().contains("TLSv1.2"));
    }

    #[test]
    fn files_of_tls_have_no_meaning_where_it_is_not_used() {
        let tls = |text: &str| options(text).unwrap().tls;
        for text in ["host=h sslmode=disable", "host=/tmp sslmode=verify-ca", "host=/tmp,/run", "dbname=x"] {
            let tls = tls(&format!("{text} sslcert=c"));
            assert_eq!((tls.check, tls.identity), (Check::Nothing, None), "{text}");
        }
        assert!(options("host=/tmp,h sslcert=c").unwrap_err().contains("sslkey"));
        assert!(options("host=/tmp sslmode=require sslnegotiation=direct").is_ok());
        assert!(options("host=/tmp ssl_max_protocol_version=3").unwrap_err().contains("TLSv1.3"));
    }

    #[test]
    fn limits_and_defaults_are_those_of_libpq_where_it_has_some() {
        let of = |text: &str| options(text).unwrap();
        assert_eq!((of("host=h").limit, of("host=h connect_timeout=0").limit), (None, None));
        assert_eq!(of("host=h connect_timeout=1").limit, Some(Duration::from_secs(2)));
        assert_eq!(of("host=h tcp_user_timeout=1500").user_timeout, Some(Duration::from_millis(1500)));
        assert_eq!(of("host=h keepalives=0").keep_alive, None);
        assert_eq!(of("host=h keepalives_idle=5").keep_alive.unwrap().idle, Duration::from_secs(5));
        assert_eq!(of("host=h").user.as_deref(), Some("me"));
        assert_eq!(of("host=h user=ann").database.as_deref(), Some("ann"));
        assert_eq!(of("host=h target_session_attrs=standby").attributes, Some(SessionAttributes::Standby));
        assert!(options("host=h connect_timeout=soon").unwrap_err().contains("connect_timeout"));
    }
}
