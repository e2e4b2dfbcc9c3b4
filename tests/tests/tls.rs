//! TLS of the sidecar with real servers and a throw-away authority: a right certificate works, and
//! errors name what is wrong with another one.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use arx_stack::clickhouse::ClickHouse;
use arx_stack::ports::free_ports;
use arx_stack::process::{run, wait_until};
use arx_stack::tls::{Authority, Pair, Terminator, Validity, https_get, self_signed, write};
use arx_stack::{Database, Stack, StackOptions};
use arx_tests::daemon::{Daemon, LIMIT, sidecar};

const ROWS: &str = r#"
    INSERT INTO arx.transactions (network, tx_hash, block_number, "timestamp", from_address, to_address, value, status)
    SELECT 'ethereum', '0x' || n, n, timestamptz '2024-01-01' + n * interval '1 hour', '0x' || lpad((n % 3)::text, 40, '0'),
           '0x' || lpad(((n + 1) % 3)::text, 40, '0'), 1, 'confirmed'
      FROM generate_series(1, 12) AS n"#;

/// Authorities and certificates of a test, in a folder.
struct Certificates {
    folder: tempfile::TempDir,
    authority: Authority,
    stranger: Authority,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (authority, stranger) = (Authority::new("ARX test").unwrap(), Authority::new("ARX test").unwrap());
        write(folder.path(), "ca.crt", authority.certificate()).unwrap();
        write(folder.path(), "stranger.crt", stranger.certificate()).unwrap();
        Self { folder, authority, stranger }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn right(&self) -> Pair {
        self.authority.sign(&["localhost"], Validity::Now).unwrap()
    }

    fn expired(&self) -> Pair {
        self.authority.sign(&["localhost"], Validity::Expired).unwrap()
    }

    fn misnamed(&self) -> Pair {
        self.authority.sign(&["other.test", "192.0.2.7"], Validity::Now).unwrap()
    }

    /// From another authority of the same name.
    fn foreign(&self) -> Pair {
        self.stranger.sign(&["localhost"], Validity::Now).unwrap()
    }
}

/// A PostgreSQL that listens, in a stack of its own.
struct Postgres {
    stack: Stack,
}

impl Postgres {
    fn start() -> Self {
        Self { stack: Stack::start_listening(&StackOptions::default()).unwrap() }
    }

    fn port(&self) -> u16 {
        self.stack.cluster().port()
    }

    fn query(&self, sql: &str) -> String {
        let mut psql = self.stack.cluster().program("psql");
        run(psql.args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", sql])).unwrap().trim().to_owned()
    }

    fn use_certificate(&self, pair: &Pair) {
        self.stack.use_certificate(pair).unwrap();
    }

    fn use_hba(&self, lines: &str) {
        let path =
            write(&self.stack.cluster().data(), "pg_hba.conf", &format!("local all all trust\n{lines}\n")).unwrap();
        self.stack.cluster().account().own(&path).unwrap();
        self.stack.reload().unwrap();
    }

    fn url(&self, database: &Database<'_>, rest: &str) -> String {
        format!("host=localhost port={} user=postgres dbname={} {rest}", self.port(), database.name())
    }
}

#[test]
fn postgresql_is_verified_as_the_address_says() {
    let certificates = Certificates::new();
    let server = Postgres::start();
    let database = server.stack.database("tls_modes").unwrap();
    let (ca, stranger) = (certificates.path("ca.crt"), certificates.path("stranger.crt"));
    let connect = |rest: &str| {
        let url = server.url(&database, rest);
        let (_, text) = sidecar(&database, &[("ARX_POSTGRES_URL", &url)], &["status"]);
        text
    };
    let is_up = |text: &str| text.contains("feed: never ran");
    // Without TLS in the server.
    for (rest, up, expected) in [
        ("sslmode=disable", true, ""),
        ("sslmode=allow", true, ""),
        ("", true, "connected without TLS"),
        ("sslmode=prefer", true, "sslmode=require or verify-full"),
        ("sslmode=require", false, "the server has no TLS"),
        (&*format!("sslmode=verify-full sslrootcert={ca}"), false, "the server has no TLS"),
    ] {
        let text = connect(rest);
        assert!(is_up(&text) == up && text.contains(expected), "{rest}: {text}");
        assert!(up || text.contains("localhost"), "{rest}: {text}");
        assert_eq!(
            text.contains("connected without TLS"),
            rest.is_empty() || rest == "sslmode=prefer",
            "{rest}: {text}"
        );
    }
    // With TLS alone.
    server.use_hba("hostssl all all all trust");
    let full = format!("sslmode=verify-full sslrootcert={ca}");
    let authority = format!("sslmode=verify-ca sslrootcert={ca}");
    let other = format!("sslmode=verify-full sslrootcert={stranger}");
    let required = format!("sslmode=require sslrootcert={stranger}");
    let self_made = self_signed(&["localhost"], Validity::Now).unwrap();
    write(certificates.folder.path(), "self.crt", &self_made.certificate).unwrap();
    let pinned = format!("sslmode=verify-full sslrootcert={}", certificates.path("self.crt"));
    let unknown = "signed by an unknown authority";
    for (pair, cases) in [
        (
            certificates.right(),
            vec![
                ("", true, ""),
                ("sslmode=require", true, ""),
                ("sslmode=allow", true, ""),
                ("sslmode=disable", false, "no encryption"),
                (&*authority, true, ""),
                (&*full, true, ""),
                (&*other, false, unknown),
                (&*required, false, "sslrootcert"),
                ("sslmode=verify-full", false, unknown),
                ("sslmode=verify-ca", false, "sslrootcert must be"),
                ("sslmode=verify-full sslrootcert=/nowhere", false, "/nowhere cannot be read"),
            ],
        ),
        (
            certificates.expired(),
            vec![
                ("sslmode=require", true, ""),
                (&*authority, false, "has expired (at 2021-01-01"),
                (&*full, false, "renew the server's certificate"),
            ],
        ),
        (
            certificates.misnamed(),
            vec![
                ("sslmode=require", true, ""),
                (&*authority, true, ""),
                (&*full, false, "it is for other.test, 192.0.2.7, not for localhost"),
            ],
        ),
        (certificates.foreign(), vec![(&*full, false, unknown), (&*authority, false, unknown), (&*other, true, "")]),
        (self_made, vec![(&*pinned, true, ""), (&*full, false, unknown)]),
        (self_signed(&["other.test"], Validity::Now).unwrap(), vec![(&*pinned, false, unknown)]),
    ] {
        server.use_certificate(&pair);
        for (rest, up, expected) in cases {
            let text = connect(rest);
            assert!(is_up(&text) == up && text.contains(expected), "{rest}: {text}");
            assert!(!text.contains("connected without TLS"), "{rest}: {text}");
        }
    }
    // The same sidecar variables as psql's.
    server.use_certificate(&certificates.right());
    let port = server.port().to_string();
    let variables = [
        ("ARX_POSTGRES_URL", "user=postgres"),
        ("PGHOST", "localhost"),
        ("PGPORT", &*port),
        ("PGDATABASE", database.name()),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", &*ca),
    ];
    let (_, text) = sidecar(&database, &variables, &["status"]);
    assert!(is_up(&text), "{text}");
    // Either half of an address in the environment.
    let url = server.url(&database, "sslmode=verify-ca");
    let (_, text) = sidecar(&database, &[("ARX_POSTGRES_URL", &url), ("PGSSLROOTCERT", &ca)], &["status"]);
    assert!(is_up(&text), "{text}");
}

#[test]
fn postgresql_may_ask_for_a_certificate_and_for_channel_binding() {
    let certificates = Certificates::new();
    let server = Postgres::start();
    let database = server.stack.database("tls_clients").unwrap();
    let cluster = server.stack.cluster();
    let client = certificates.authority.sign(&["postgres"], Validity::Now).unwrap();
    let revoked = certificates.authority.sign(&["postgres"], Validity::Now).unwrap();
    let expired = certificates.authority.sign(&["postgres"], Validity::Expired).unwrap();
    let foreign = certificates.stranger.sign(&["postgres"], Validity::Now).unwrap();
    for (name, pair) in [("client", &client), ("revoked", &revoked), ("expired", &expired), ("foreign", &foreign)] {
        pair.write(certificates.folder.path(), name).unwrap();
    }
    for (name, text) in [
        ("root.crt", certificates.authority.certificate()),
        ("root.crl", &certificates.authority.revoke(&[&revoked]).unwrap()),
    ] {
        cluster.account().own(&write(&cluster.data(), name, text).unwrap()).unwrap();
    }
    for setting in ["ssl_ca_file = 'root.crt'", "ssl_crl_file = 'root.crl'"] {
        server.query(&format!("ALTER SYSTEM SET {setting}"));
    }
    server.use_certificate(&certificates.right());
    server.use_hba("hostssl all all all cert");
    let connect = |rest: &str| {
        let rest = format!("sslmode=verify-full sslrootcert={} {rest}", certificates.path("ca.crt"));
        let url = server.url(&database, &rest);
        sidecar(&database, &[("ARX_POSTGRES_URL", &url)], &["status"]).1
    };
    let with = |certificate: &str, key: &str| {
        let path = |name: &str| certificates.path(name);
        connect(&format!("sslcert={} sslkey={}", path(certificate), path(key)))
    };
    for (certificate, key, expected) in [
        ("client.crt", "client.key", "feed: never ran"),
        ("revoked.crt", "revoked.key", "refused the client certificate: it was revoked"),
        ("expired.crt", "expired.key", "refused the client certificate: it has expired"),
        ("foreign.crt", "foreign.key", "refused the client certificate"),
        ("client.crt", "revoked.key", "the key does not belong to the certificate"),
        ("client.crt", "client.crt", "contains no private key"),
        ("missing.crt", "client.key", "missing.crt cannot be read"),
    ] {
        let text = with(certificate, key);
        assert!(text.contains(expected), "{certificate}, {key}: {text}");
        assert!(!text.contains("PRIVATE KEY"), "{text}");
    }
    let key = certificates.folder.path().join("client.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = with("client.crt", "client.key");
    assert!(text.contains("may access the key") && text.contains("client.key; run chmod 600"), "{text}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(with("client.crt", "client.key").contains("feed: never ran"));
    let text = connect("");
    assert!(text.contains("valid client certificate"), "{text}");
    // Before version 17, PostgreSQL ends a connection that begins with a handshake.
    if server.query("SHOW server_version_num").parse::<u32>().unwrap() < 170_000 {
        let text = connect("sslnegotiation=direct");
        assert!(text.contains("sslnegotiation=postgres"), "{text}");
    }
    // A list of revoked certificates on this side.
    server.use_hba("hostssl all all all trust");
    let right = certificates.right();
    write(certificates.folder.path(), "server.crl", &certificates.authority.revoke(&[&right]).unwrap()).unwrap();
    let revoked_here = format!("sslcrl={}", certificates.path("server.crl"));
    assert!(connect(&revoked_here).contains("feed: never ran"), "{}", connect(&revoked_here));
    server.use_certificate(&right);
    assert!(connect(&revoked_here).contains("certificate was revoked"), "{}", connect(&revoked_here));
    // Channel binding needs a password by SCRAM, over TLS.
    server.query("CREATE ROLE bound SUPERUSER LOGIN PASSWORD 'tops3cret'");
    server.use_hba("host all all all scram-sha-256");
    let bound = |rest: &str| connect(&format!("user=bound password=tops3cret channel_binding=require {rest}"));
    assert!(bound("").contains("feed: never ran"), "{}", bound(""));
    for text in [bound("sslmode=disable"), bound("user=bound password=wrong")] {
        assert!(!text.contains("feed: never ran") && !text.contains("tops3cret"), "{text}");
    }
    server.use_hba("host all all all trust");
    assert!(!bound("").contains("feed: never ran"), "{}", bound(""));
}

#[test]
fn a_rotated_certificate_of_postgresql_stops_the_feed_until_the_sidecar_trusts_it() {
    let certificates = Certificates::new();
    let server = Postgres::start();
    let database = server.stack.database("tls_rotation").unwrap();
    database.query(ROWS).unwrap();
    server.use_certificate(&certificates.right());
    server.use_hba("hostssl all all all trust");
    let trusted = write(certificates.folder.path(), "trusted.crt", certificates.authority.certificate()).unwrap();
    let url = server.url(&database, &format!("sslmode=verify-full sslrootcert={}", trusted.display()));
    let daemon = Daemon::start(&database, &[("ARX_POSTGRES_URL", &url)], certificates.folder.path());
    let fed = |rows: &str| {
        let fed = || Ok(database.query("SELECT coalesce(sum(transaction_count), 0) FROM arx.hourly_volume")? == rows);
        assert!(wait_until(LIMIT, fed).unwrap(), "{rows} rows were not fed: {}", daemon.log());
    };
    fed("12");
    let encrypted = "SELECT bool_and(ssl) AND count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                      WHERE application_name = 'arx-sidecar'";
    assert_eq!(database.query(encrypted).unwrap(), "t");
    // The authority is replaced: the old one signs no more.
    server.use_certificate(&certificates.foreign());
    server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'arx-sidecar'");
    daemon.wait_for_log("signed by an unknown authority");
    database.query(&ROWS.replace("'0x' || n,", "'0y' || n,")).unwrap();
    write(certificates.folder.path(), "trusted.crt", certificates.stranger.certificate()).unwrap();
    fed("24");
}

/// Starts a Redis with TLS on a port, in addition to its socket, which is returned.
fn start_redis(stack: &Stack, name: &str, certificates: &Certificates, port: u16, options: &[&str]) -> PathBuf {
    let socket = stack.folder().join(format!("{name}.sock"));
    let mut command = Command::new("redis-server");
    command.args(["--port", "0", "--tls-port", &port.to_string(), "--save", "", "--appendonly", "no"]);
    command.arg("--unixsocket").arg(&socket).arg("--dir").arg(stack.folder());
    command.args([
        "--tls-cert-file",
        &certificates.path("redis.crt"),
        "--tls-key-file",
        &certificates.path("redis.key"),
    ]);
    command.args(["--tls-ca-cert-file", &certificates.path("ca.crt"), "--tls-auth-clients", "optional"]);
    command.args(options);
    stack.start_server(name, &command).unwrap();
    let ready = || Ok(run(Command::new("redis-cli").arg("-s").arg(&socket).arg("PING")).is_ok());
    assert!(wait_until(LIMIT, ready).unwrap(), "{name} does not answer");
    socket
}

/// Makes a server show another certificate.
fn replace_certificate(socket: &Path, certificates: &Certificates, pair: &Pair, name: &str) {
    let (certificate, key) = pair.write(certificates.folder.path(), name).unwrap();
    let mut cli = Command::new("redis-cli");
    cli.arg("-s").arg(socket).args(["CONFIG", "SET", "tls-cert-file"]).arg(certificate).arg("tls-key-file").arg(key);
    assert!(run(&mut cli).unwrap().contains("OK"));
}

#[test]
fn redis_is_verified_and_never_used_without_tls_where_the_url_asks_for_it() {
    let certificates = Certificates::new();
    let stack = Stack::shared().unwrap();
    let database = stack.database("tls_redis").unwrap();
    certificates.right().write(certificates.folder.path(), "redis").unwrap();
    certificates.right().write(certificates.folder.path(), "client").unwrap();
    certificates.foreign().write(certificates.folder.path(), "foreign").unwrap();
    let [port] = free_ports().unwrap();
    let socket = start_redis(stack, "redis-tls", &certificates, port, &[]);
    let url = format!("rediss://localhost:{port}");
    let (ca, stranger) = (certificates.path("ca.crt"), certificates.path("stranger.crt"));
    let status = |url: &str, root: &str, client: Option<&str>| {
        let files =
            client.map(|name| (certificates.path(&format!("{name}.crt")), certificates.path(&format!("{name}.key"))));
        let mut variables = vec![("ARX_REDIS_URL", url)];
        if !root.is_empty() {
            variables.push(("ARX_REDIS_ROOT_FILE", root));
        }
        if let Some((certificate, key)) = &files {
            variables.extend([("ARX_REDIS_CERTIFICATE_FILE", &**certificate), ("ARX_REDIS_KEY_FILE", &**key)]);
        }
        sidecar(&database, &variables, &["status"]).1
    };
    let up = "annotations queued";
    assert!(status(&url, &ca, None).contains(up), "{}", status(&url, &ca, None));
    assert!(status(&url, &ca, Some("client")).contains(up));
    let self_made = self_signed(&["localhost"], Validity::Now).unwrap();
    write(certificates.folder.path(), "self.crt", &self_made.certificate).unwrap();
    let pinned = certificates.path("self.crt");
    for (pair, root, expected) in [
        (
            None,
            &*stranger,
            "signed by an unknown authority; name the certificate of its authority with redis_root_file",
        ),
        (None, "", "signed by an unknown authority"),
        (None, "/nowhere", "/nowhere cannot be read"),
        (Some(certificates.expired()), &*ca, "has expired"),
        (Some(certificates.misnamed()), &*ca, "it is for other.test, 192.0.2.7, not for localhost"),
        (Some(certificates.foreign()), &*ca, "signed by an unknown authority"),
        (Some(self_made), &*pinned, "is self-signed, or one of an authority; sign the server's certificate"),
        (Some(certificates.right()), &*ca, up),
    ] {
        if let Some(pair) = pair {
            replace_certificate(&socket, &certificates, &pair, "rotated");
        }
        let text = status(&url, root, None);
        assert!(text.contains(expected), "{root}: {text}");
        assert!(text.contains(up) || text.contains(&format!("rediss://localhost:{port}")), "{text}");
    }
    run(Command::new("redis-cli").arg("-s").arg(&socket).args(["CONFIG", "SET", "tls-auth-clients", "yes"])).unwrap();
    assert!(status(&url, &ca, Some("client")).contains(up));
    let text = status(&url, &ca, None);
    assert!(text.contains("requires a client certificate; name a certificate with redis_certificate_file"), "{text}");
    let text = status(&url, &ca, Some("foreign"));
    assert!(text.contains("refused the client certificate"), "{text}");
    // Sentinels, with TLS to them and to the server that they name.
    let [sentinel] = free_ports().unwrap();
    let configuration = certificates.path("sentinel.conf");
    let (certificate, key) = (certificates.path("client.crt"), certificates.path("client.key"));
    let text = format!(
        "port 0\ntls-port {sentinel}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {ca}\n\
         tls-replication yes\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n\
         sentinel monitor main localhost {port} 1\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let mut command = Command::new("redis-server");
    stack.start_server("sentinel-tls", command.args([&configuration, "--sentinel"])).unwrap();
    let url_of_sentinels = format!("rediss+sentinel://localhost:{sentinel}/main");
    let found = || Ok(status(&url_of_sentinels, &ca, Some("client")).contains(up));
    assert!(wait_until(LIMIT, found).unwrap(), "{}", status(&url_of_sentinels, &ca, Some("client")));
    let text = status(&url_of_sentinels, &stranger, Some("client"));
    assert!(!text.contains(up) && text.contains(&url_of_sentinels), "{text}");
    // A URL without TLS.
    let text = status(&format!("redis://localhost:{port}"), "", None);
    assert!(text.contains("if the server expects TLS, the URL begins with rediss"), "{text}");
    // A server without TLS, and URLs that must not be used.
    let [plain] = free_ports().unwrap();
    let mut command = Command::new("redis-server");
    command.args(["--port", &plain.to_string(), "--save", "", "--dir"]).arg(stack.folder());
    stack.start_server("redis-plain", &command).unwrap();
    let ready = || Ok(run(Command::new("redis-cli").args(["-p", &plain.to_string(), "PING"])).is_ok());
    assert!(wait_until(LIMIT, ready).unwrap());
    let text = status(&format!("rediss://localhost:{plain}"), &ca, None);
    assert!(text.contains("does not answer the handshake, as one that has no TLS; switch TLS on"), "{text}");
    let (output, text) = sidecar(&database, &[("ARX_REDIS_URL", &format!("{url}/#insecure"))], &["status"]);
    assert!(!output.status.success() && text.contains("redis_url"), "{text}");
}

#[test]
fn every_node_of_a_cluster_is_verified() {
    let certificates = Certificates::new();
    let stack = Stack::shared().unwrap();
    let database = stack.database("tls_cluster").unwrap();
    certificates.right().write(certificates.folder.path(), "redis").unwrap();
    let ca = certificates.path("ca.crt");
    let ports = free_ports::<6>().unwrap();
    let sockets: Vec<PathBuf> = (0..3)
        .map(|index| {
            let (name, bus) = (format!("redis-tls-node-{index}"), ports[index + 3].to_string());
            let nodes = format!("{name}.nodes");
            // The certificates are for a name, by which the nodes refer to each other.
            let cluster = ["--cluster-enabled", "yes", "--cluster-announce-hostname", "localhost"];
            let named = ["--cluster-preferred-endpoint-type", "hostname", "--tls-cluster", "yes"];
            let own = ["--cluster-port", &bus, "--cluster-config-file", &nodes];
            start_redis(stack, &name, &certificates, ports[index], &[&cluster[..], &named, &own].concat())
        })
        .collect();
    let mut create = Command::new("redis-cli");
    create.args(["--tls", "--cacert", &ca, "--cluster", "create"]);
    create.args(ports[..3].iter().map(|port| format!("127.0.0.1:{port}"))).arg("--cluster-yes");
    run(&mut create).unwrap();
    let is_whole = || {
        let state = |socket: &PathBuf| {
            run(Command::new("redis-cli").arg("-s").arg(socket).args(["CLUSTER", "INFO"])).unwrap_or_default()
        };
        Ok(sockets.iter().all(|socket| state(socket).contains("cluster_state:ok")))
    };
    assert!(wait_until(LIMIT, is_whole).unwrap());
    let url = format!("rediss+cluster://localhost:{}", ports[0]);
    let with = |url: &str, root: &str, arguments: &[&str]| {
        let (output, text) = sidecar(&database, &[("ARX_REDIS_URL", url), ("ARX_REDIS_ROOT_FILE", root)], arguments);
        (output.status.success(), text)
    };
    // The streams of writes are on all three.
    let status = |root: &str| with(&url, root, &["status"]).1;
    let up = "annotations queued";
    assert!(status(&ca).contains(up), "{}", status(&ca));
    for number in 1..=40 {
        let (is_accepted, text) = with(&url, &ca, &["annotate", &format!("0x{number:040x}"), "{\"note\": \"x\"}"]);
        assert!(is_accepted, "{text}");
    }
    assert!(status(&ca).contains("annotations queued: 40"), "{}", status(&ca));
    let text = status(&certificates.path("stranger.crt"));
    assert!(!text.contains(up) && text.contains("signed by an unknown authority") && text.contains(&url), "{text}");
    let text = with(&url.replace("rediss", "redis"), "", &["status"]).1;
    assert!(!text.contains(up) && text.contains("Redis"), "{text}");
    // One node with a wrong certificate, which is not the node of the URL.
    for pair in [certificates.foreign(), certificates.misnamed(), certificates.expired()] {
        replace_certificate(&sockets[2], &certificates, &pair, "wrong");
        assert!(!status(&ca).contains(up), "{}", status(&ca));
    }
    replace_certificate(&sockets[2], &certificates, &certificates.right(), "right");
    assert!(status(&ca).contains(up), "{}", status(&ca));
}

#[test]
fn clickhouse_is_fed_by_https_and_verified() {
    let certificates = Certificates::new();
    let stack = Stack::shared().unwrap();
    let database = stack.database("tls_clickhouse").unwrap();
    database.query(ROWS).unwrap();
    certificates.right().write(certificates.folder.path(), "client").unwrap();
    certificates.foreign().write(certificates.folder.path(), "foreign").unwrap();
    let engine = ClickHouse::start_with(stack, "tls-clickhouse", &[]).unwrap();
    let terminator = Terminator::start(engine.http_port(), &certificates.right(), None).unwrap();
    let url = format!("https://localhost:{}", terminator.port());
    let (ca, stranger) = (certificates.path("ca.crt"), certificates.path("stranger.crt"));
    let run_with = |url: &str, more: &[(&str, &str)], command: &str| {
        let mut variables = vec![
            ("ARX_CLICKHOUSE_URL", url),
            ("ARX_CLICKHOUSE_USER", "arx"),
            ("ARX_CLICKHOUSE_PASSWORD", engine.password()),
        ];
        variables.extend(more);
        let (_, text) = sidecar(&database, &variables, &[command]);
        assert!(!text.contains(engine.password()), "{text}");
        text
    };
    let root = |path: &'static str| ("ARX_CLICKHOUSE_ROOT_FILE", path);
    let ca: &'static str = ca.leak();
    let stranger: &'static str = stranger.leak();
    let text = run_with(&url, &[root(ca)], "sync");
    assert!(text.contains("12 rows"), "{text}");
    assert_eq!(engine.query("SELECT count() FROM arx.transaction_events").unwrap(), "12");
    assert!(run_with(&url, &[root(ca)], "verify").contains("both sides are the same"));
    for (pair, root_file, expected) in [
        (
            certificates.right(),
            stranger,
            "signed by an unknown authority; name the certificate of its authority with clickhouse_root_file",
        ),
        (certificates.right(), "/nowhere", "/nowhere cannot be read"),
        (certificates.expired(), ca, "has expired"),
        (certificates.misnamed(), ca, "it is for other.test, 192.0.2.7, not for localhost"),
        (certificates.foreign(), ca, "signed by an unknown authority"),
    ] {
        terminator.replace(&pair).unwrap();
        for command in ["status", "sync"] {
            let text = run_with(&url, &[root(root_file)], command);
            assert!(text.contains(expected) && text.contains(&url), "{command}: {text}");
        }
    }
    let text = run_with(&format!("https://localhost:{}", engine.http_port()), &[root(ca)], "status");
    assert!(text.contains("the server has no TLS"), "{text}");
    let text = run_with(&format!("http://localhost:{}", terminator.port()), &[], "status");
    assert!(text.contains("if the server expects TLS, the URL begins with https"), "{text}");
    let strict =
        Terminator::start(engine.http_port(), &certificates.right(), Some(certificates.authority.certificate()))
            .unwrap();
    let url = format!("https://localhost:{}", strict.port());
    let with = |name: &str| {
        let (certificate, key) = (certificates.path(&format!("{name}.crt")), certificates.path(&format!("{name}.key")));
        run_with(
            &url,
            &[root(ca), ("ARX_CLICKHOUSE_CERTIFICATE_FILE", &certificate), ("ARX_CLICKHOUSE_KEY_FILE", &key)],
            "status",
        )
    };
    assert!(with("client").contains("transaction_events: 12 transactions"), "{}", with("client"));
    assert!(with("foreign").contains("refused the client certificate"), "{}", with("foreign"));
    let text = run_with(&url, &[root(ca)], "status");
    assert!(text.contains("requires a client certificate"), "{text}");
}

#[test]
fn the_health_page_is_served_by_https_to_those_with_a_token() {
    let certificates = Certificates::new();
    let database = Stack::shared().unwrap().database("tls_listener").unwrap();
    let folder = certificates.folder.path();
    certificates.right().write(folder, "listener").unwrap();
    let tokens = write(folder, "tokens", "the-first-token-of-two\nthe-second-token-of-two\n").unwrap();
    let (certificate, key) = (certificates.path("listener.crt"), certificates.path("listener.key"));
    let variables = [
        ("ARX_LISTEN_CERTIFICATE_FILE", &*certificate),
        ("ARX_LISTEN_KEY_FILE", &*key),
        ("ARX_LISTEN_TOKEN_FILE", tokens.to_str().unwrap()),
    ];
    let daemon = Daemon::start(&database, &variables, folder);
    let address = daemon.address();
    let get = |authority: &Authority, token: &str| {
        https_get(address, authority, "/metrics", &format!("Authorization: Bearer {token}\r\n"))
    };
    let first = "the-first-token-of-two";
    assert!(get(&certificates.authority, first).unwrap().starts_with("HTTP/1.1 200"), "{}", daemon.log());
    for path in ["/metrics", "/healthz", "/nothing"] {
        let answer = https_get(address, &certificates.authority, path, "").unwrap();
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("Bearer"), "{path}: {answer}");
    }
    assert!(get(&certificates.authority, "the-third-token").unwrap().starts_with("HTTP/1.1 401"));
    assert!(get(&certificates.stranger, first).is_err());
    // Without TLS there is no answer.
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // A new certificate and new tokens take effect at once; half of a new pair changes nothing.
    let foreign = certificates.foreign();
    write(folder, "listener.crt", &foreign.certificate).unwrap();
    assert!(get(&certificates.authority, first).unwrap().starts_with("HTTP/1.1 200"));
    write(folder, "listener.key", &foreign.key).unwrap();
    assert!(get(&certificates.stranger, first).unwrap().starts_with("HTTP/1.1 200"), "{}", daemon.log());
    assert!(get(&certificates.authority, first).is_err());
    write(folder, "tokens", "the-second-token-of-two\n").unwrap();
    assert!(get(&certificates.stranger, first).unwrap().starts_with("HTTP/1.1 401"));
    assert!(get(&certificates.stranger, "the-second-token-of-two").unwrap().starts_with("HTTP/1.1 200"));
    write(folder, "tokens", "").unwrap();
    assert!(get(&certificates.stranger, "").unwrap().starts_with("HTTP/1.1 401"));
    assert!(get(&certificates.stranger, "the-second-token-of-two").unwrap().starts_with("HTTP/1.1 200"));
    let log = daemon.log();
    assert!(log.contains("the changed files cannot be used") && !log.contains("-token-of-two"), "{log}");
}
