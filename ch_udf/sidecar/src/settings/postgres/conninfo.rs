//! Connection strings of libpq, in both forms, as keywords and values. Owns the list of keywords
//! with their environment variables. Errors never repeat a part of the string, because any part of
//! a string that was not quoted well may belong to a password.

use std::collections::BTreeMap;

/// A keyword, with the variable of the environment that gives it.
type Keyword = (&'static str, Option<&'static str>);

/// Keywords that have an effect.
const KEYWORDS: [Keyword; 29] = [
    ("channel_binding", Some("PGCHANNELBINDING")),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("dbname", Some("PGDATABASE")),
    ("gssencmode", Some("PGGSSENCMODE")),
    ("host", Some("PGHOST")),
    ("hostaddr", Some("PGHOSTADDR")),
    ("keepalives", None),
    ("keepalives_count", None),
    ("keepalives_idle", None),
    ("keepalives_interval", None),
    ("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    ("options", Some("PGOPTIONS")),
    ("passfile", Some("PGPASSFILE")),
    ("password", Some("PGPASSWORD")),
    ("port", Some("PGPORT")),
    ("service", Some("PGSERVICE")),
    ("servicefile", Some("PGSERVICEFILE")),
    ("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION")),
    ("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslcrl", Some("PGSSLCRL")),
    ("sslkey", Some("PGSSLKEY")),
    ("sslmode", Some("PGSSLMODE")),
    ("sslnegotiation", Some("PGSSLNEGOTIATION")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("sslsni", Some("PGSSLSNI")),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    ("tcp_user_timeout", None),
    ("user", Some("PGUSER")),
];

/// Keywords that the sidecar decides itself, or that have no meaning without GSSAPI.
const IGNORED: [&str; 7] = [
    "application_name",
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "sslcompression",
];

/// Keywords of libpq that promise something that the sidecar does not do, and their variables.
const UNSUPPORTED: [Keyword; 8] = [
    ("replication", None),
    ("require_auth", Some("PGREQUIREAUTH")),
    ("requirepeer", Some("PGREQUIREPEER")),
    ("scram_client_key", None),
    ("scram_server_key", None),
    ("sslcertmode", Some("PGSSLCERTMODE")),
    ("sslcrldir", Some("PGSSLCRLDIR")),
    ("sslpassword", None),
];

/// A name of earlier versions of ARX.
const ALIASES: [(&str, &str); 2] = [("keepalives_retries", "keepalives_count"), ("ssl", "sslmode")];

/// Reason why a connection string cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConninfoError {
    /// It is neither a URL nor pairs, or has an unknown keyword.
    #[error("the form is wrong, or a keyword is unknown")]
    Form,
    #[error("{keyword} must be {allowed}")]
    Value { keyword: &'static str, allowed: &'static str },
    #[error("{keyword} is not supported")]
    Unsupported { keyword: &'static str },
}

/// Keywords with their values. An empty value counts as absent, as for libpq.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Conninfo(BTreeMap<&'static str, String>);

impl std::fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Conninfo {
    /// Parses a URL or pairs.
    ///
    /// # Errors
    /// [`ConninfoError`].
    pub(crate) fn parse(text: &str) -> Result<Self, ConninfoError> {
        let mut found = Self::default();
        match ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
            Some(rest) => found.parse_url(rest)?,
            None => found.parse_pairs(text)?,
        }
        Ok(found)
    }

    /// Reads the variables of libpq.
    ///
    /// # Errors
    /// [`ConninfoError::Unsupported`] for a variable that promises what the sidecar does not do.
    pub(crate) fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConninfoError> {
        let mut found = Self::default();
        for (keyword, name) in KEYWORDS.iter().chain(&UNSUPPORTED) {
            if let Some(value) = name.and_then(&variable) {
                found.set(keyword, value)?;
            }
        }
        Ok(found)
    }

    pub(crate) fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str)
    }

    /// Sets a keyword; the later of two values wins.
    ///
    /// # Errors
    /// [`ConninfoError`].
    pub(super) fn set(&mut self, keyword: &str, value: String) -> Result<(), ConninfoError> {
        if let Some((unsupported, _)) = UNSUPPORTED.iter().find(|(name, _)| *name == keyword) {
            return if value.is_empty() { Ok(()) } else { Err(ConninfoError::Unsupported { keyword: unsupported }) };
        }
        if IGNORED.contains(&keyword) {
            return Ok(());
        }
        // JDBC's spelling.
        let value = match (keyword, value.as_str()) {
            ("ssl", "true") => "require".to_owned(),
            ("ssl", _) => return Err(ConninfoError::Form),
            _ => value,
        };
        let keyword = ALIASES.iter().find(|(alias, _)| *alias == keyword).map_or(keyword, |(_, keyword)| keyword);
        let (keyword, _) = KEYWORDS.iter().find(|(name, _)| *name == keyword).ok_or(ConninfoError::Form)?;
        self.0.insert(keyword, value);
        self.0.retain(|_, value| !value.is_empty());
        Ok(())
    }

    pub(super) fn remove(&mut self, keyword: &str) -> Option<String> {
        self.0.remove(keyword)
    }

    /// Adds the values of keywords that are absent here.
    pub(super) fn fill_from(&mut self, other: &Self) {
        for (keyword, value) in &other.0 {
            self.0.entry(keyword).or_insert_with(|| value.clone());
        }
    }

    /// Parses what follows the scheme:
    /// `[user[:password]@][host[:port],…][/dbname][?keyword=value&…]`.
    fn parse_url(&mut self, text: &str) -> Result<(), ConninfoError> {
        let end_of_user = text.find(['@', '/']).filter(|end| text[*end..].starts_with('@'));
        let rest = match end_of_user {
            None => text,
            Some(end) => {
                let (user, password) = text[..end].split_once(':').unwrap_or((&text[..end], ""));
                self.set("user", decoded(user)?)?;
                self.set("password", decoded(password)?)?;
                &text[end + 1..]
            }
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        // An @ or a / that is not escaped makes the rest of a password a part of what follows.
        if hosts.contains('@') || database.contains(['@', '/']) {
            return Err(ConninfoError::Form);
        }
        let (mut names, mut ports) = (Vec::new(), Vec::new());
        for host in hosts.split(',') {
            let (name, port) = match host.strip_prefix('[') {
                Some(number) => {
                    let (number, port) = number.split_once(']').ok_or(ConninfoError::Form)?;
                    let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
                    (number, port.ok_or(ConninfoError::Form)?)
                }
                None => host.split_once(':').unwrap_or((host, "")),
            };
            names.push(decoded(name)?);
            ports.push(decoded(port)?);
        }
        let list =
            |values: Vec<String>| if values.iter().all(String::is_empty) { String::new() } else { values.join(",") };
        self.set("host", list(names))?;
        self.set("port", list(ports))?;
        self.set("dbname", decoded(database)?)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (keyword, value) = pair.split_once('=').ok_or(ConninfoError::Form)?;
            self.set(&decoded(keyword)?, decoded(value)?)?;
        }
        Ok(())
    }

    /// Parses `keyword = value …`, with values in single quotes if they contain spaces.
    fn parse_pairs(&mut self, text: &str) -> Result<(), ConninfoError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (keyword, after) = rest.split_once('=').ok_or(ConninfoError::Form)?;
            let keyword = keyword.trim_end();
            if keyword.is_empty() || keyword.contains(char::is_whitespace) {
                return Err(ConninfoError::Form);
            }
            let (value, after) = value(after.trim_start())?;
            self.set(keyword, value)?;
            rest = after.trim_start();
        }
        Ok(())
    }
}

/// Takes a value, and returns it with the rest of the text.
fn value(text: &str) -> Result<(String, &str), ConninfoError> {
    let (quoted, body) = text.strip_prefix('\'').map_or((false, text), |body| (true, body));
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, character)| character)),
            '\'' if quoted => return Ok((value, &body[index + 1..])),
            character if !quoted && character.is_whitespace() => return Ok((value, &body[index..])),
            character => value.push(character),
        }
    }
    if quoted { Err(ConninfoError::Form) } else { Ok((value, "")) }
}

fn decoded(text: &str) -> Result<String, ConninfoError> {
    let is_code = |rest: &str| rest.as_bytes().iter().take(2).filter(|byte| byte.is_ascii_hexdigit()).count() == 2;
    if !text.split('%').skip(1).all(is_code) {
        return Err(ConninfoError::Form);
    }
    let bytes = percent_encoding::percent_decode_str(text);
    let text = bytes.decode_utf8().map_err(|_| ConninfoError::Form)?.into_owned();
    // No value of the protocol can contain it.
    if text.contains('\0') { Err(ConninfoError::Form) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        match Conninfo::parse(text) {
            Ok(found) => found.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn both_forms_are_read_as_libpq_reads_them() {
        assert_eq!(
            parsed("postgresql://ann:p%40w@db:5433/x?sslmode=verify-full"),
            "dbname=x host=db password=p@w port=5433 sslmode=verify-full user=ann"
        );
        assert_eq!(parsed("postgres://"), "");
        assert_eq!(parsed("postgresql:///x?host=/tmp&user=me@tenant"), "dbname=x host=/tmp user=me@tenant");
        assert_eq!(parsed("postgresql://%2Frun%2Fpg/x"), "dbname=x host=/run/pg");
        assert_eq!(parsed("postgresql://a,[::1]:1,c:2"), "host=a,::1,c port=,1,2");
        assert_eq!(parsed("postgresql://h?ssl=true"), "host=h sslmode=require");
        assert_eq!(parsed(r"host = h  password='a \'b\\' dbname=x\ y user="), r"dbname=x y host=h password=a 'b\");
        assert_eq!(parsed("host=a host=b application_name=me"), "host=b");
        assert_eq!(parsed("keepalives_retries=3"), "keepalives_count=3");
    }

    #[test]
    fn strings_that_cannot_be_read_are_rejected_without_their_text() {
        for text in [
            "h",
            "host",
            "= h",
            "host=h unknown=x",
            "host='h",
            "postgresql://a@b@c/x",
            "postgresql://u:1/p@h",
            "postgresql://[::1/x",
            "postgresql://h?x",
            "postgresql://h/%ff",
            "postgresql://h/%00",
            "postgresql://u:50%@h/x",
            "postgresql://u:p%zz@h/x",
            "postgresql://u:p%4@h/x",
        ] {
            assert_eq!(Conninfo::parse(text).unwrap_err(), ConninfoError::Form, "{text}");
        }
        assert_eq!(parsed("host=h sslpassword=x"), "sslpassword is not supported");
        assert_eq!(parsed("host=h requirepeer=x"), "requirepeer is not supported");
    }

    #[test]
    fn the_environment_gives_what_the_string_does_not() {
        let environment = Conninfo::from_environment(|name| match name {
            "PGHOST" => Some("other".into()),
            "PGPORT" => Some("7".into()),
            "PGSSLMODE" => Some("require".into()),
            _ => None,
        });
        let mut found = Conninfo::parse("host=h user=ann").unwrap();
        found.fill_from(&environment.unwrap());
        assert_eq!(
            (found.get("host"), found.get("port"), found.get("sslmode")),
            (Some("h"), Some("7"), Some("require"))
        );
        assert!(Conninfo::from_environment(|name| (name == "PGREQUIREAUTH").then(|| "scram".into())).is_err());
    }
}
