//! `arx-sidecar sync search` against a server of this test, which follows the documentation of the
//! bulk API strictly. Elasticsearch and OpenSearch themselves are not among Debian's packages.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use arx_stack::{Database, Stack};
use serde_json::{Value, json};

/// The state of the server.
#[derive(Default)]
struct Engine {
    exists: bool,
    mappings: Value,
    /// Documents of the index with their versions.
    documents: BTreeMap<String, (i64, Value)>,
    bulks: usize,
    /// Bulk requests that are answered in another way than by storing their documents.
    faults: Vec<Fault>,
    /// Versions that came again, or late.
    repeated: usize,
    authorization: Option<String>,
    /// Addresses that get 400, as do all that contain "bad".
    refused: Vec<&'static str>,
    /// Documents that each deletion has deleted.
    deletions: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The second document gets 429.
    BusyItem,
    /// The request gets 503.
    Unavailable,
    /// The documents are stored, and the connection ends without an answer.
    Lost,
    /// The request gets 413.
    TooLarge,
    /// The request gets 401.
    Denied,
    Fine,
}

const DELETION: &str = "/wallets/_delete_by_query?conflicts=proceed&max_docs=";

fn serve(engine: Arc<Mutex<Engine>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let engine = Arc::clone(&engine);
            std::thread::spawn(move || while answer(&stream, &engine).is_some() {});
        }
    });
    format!("http://{address}")
}

/// Answers a request; `None` ends the connection.
fn answer(stream: &TcpStream, engine: &Mutex<Engine>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let mut engine = engine.lock().unwrap();
    engine.authorization = headers.get("authorization").cloned();
    let (status, text) = match (method.as_str(), path.as_str()) {
        ("GET", "/wallets/_mapping") if engine.exists => {
            (200, json!({"wallets": {"mappings": engine.mappings}}).to_string())
        }
        ("GET", "/wallets/_mapping") => (404, json!({"error": "index_not_found_exception"}).to_string()),
        ("DELETE", "/wallets") if engine.exists => {
            engine.exists = false;
            engine.documents.clear();
            (200, json!({"acknowledged": true}).to_string())
        }
        ("DELETE", "/wallets") => (404, json!({"error": "index_not_found_exception"}).to_string()),
        ("PUT", "/wallets") if engine.exists => {
            (400, json!({"error": {"type": "resource_already_exists_exception"}}).to_string())
        }
        ("PUT", "/wallets") => {
            let mappings: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(mappings["mappings"]["properties"]["address"]["type"], "keyword");
            engine.mappings = mappings["mappings"].clone();
            engine.exists = true;
            (200, json!({"acknowledged": true}).to_string())
        }
        ("POST", "/_bulk") => {
            assert_eq!(headers["content-type"], "application/x-ndjson");
            let fault = engine.faults.get(engine.bulks).copied().unwrap_or(Fault::Fine);
            engine.bulks += 1;
            match fault {
                Fault::Unavailable => (503, "not ready".to_owned()),
                Fault::TooLarge => (413, String::new()),
                Fault::Denied => (401, "who are you".to_owned()),
                Fault::BusyItem | Fault::Lost | Fault::Fine => {
                    let items = store(&mut engine, &body, fault);
                    if fault == Fault::Lost {
                        stream.shutdown(std::net::Shutdown::Both).ok()?;
                        return None;
                    }
                    (200, items)
                }
            }
        }
        ("POST", "/wallets/_refresh") => (200, "{}".to_owned()),
        ("POST", path) if path.starts_with(DELETION) => {
            let most: usize = path[DELETION.len()..].parse().unwrap();
            let query: Value = serde_json::from_str(&body).unwrap();
            let query = &query["query"]["bool"];
            let limit = query["filter"][0]["range"]["synced"]["lt"].as_i64().unwrap();
            let kept = query["must_not"][0]["ids"]["values"].as_array().unwrap();
            let mut deleted = 0;
            engine.documents.retain(|id, (_, source)| {
                let is_old = source["synced"].as_i64().unwrap() < limit && !kept.contains(&json!(id));
                let stays = !is_old || deleted == most;
                deleted += usize::from(!stays);
                stays
            });
            engine.deletions.push(deleted);
            (200, json!({"deleted": deleted, "version_conflicts": 0, "failures": []}).to_string())
        }
        other => panic!("the API has no {other:?}"),
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )
    .ok()
}

/// Stores the documents of a bulk request and returns the answer.
fn store(engine: &mut Engine, body: &str, fault: Fault) -> String {
    assert!(body.ends_with('\n'), "the last line must end");
    let lines: Vec<&str> = body.strip_suffix('\n').unwrap().split('\n').collect();
    assert!(lines.len().is_multiple_of(2), "an action and a source each");
    let mut items = Vec::new();
    for (number, pair) in lines.chunks(2).enumerate() {
        let action: Value = serde_json::from_str(pair[0]).unwrap();
        let source: Value = serde_json::from_str(pair[1]).unwrap();
        let action = &action["index"];
        assert_eq!((&action["_index"], &action["version_type"]), (&json!("wallets"), &json!("external_gte")));
        let (id, version) = (action["_id"].as_str().unwrap().to_owned(), action["version"].as_i64().unwrap());
        let stored = engine.documents.get(&id).map(|(version, _)| *version);
        let status = match stored {
            _ if number == 1 && fault == Fault::BusyItem => 429,
            _ if source["address"].as_str().is_some_and(|a| a.contains("bad") || engine.refused.contains(&a)) => 400,
            Some(stored) if stored > version => 409,
            Some(_) => 200,
            None => 201,
        };
        if status < 300 {
            engine.repeated += usize::from(stored == Some(version));
            engine.documents.insert(id.clone(), (version, source));
        }
        let error = (status > 299).then(|| json!({"type": "some_exception", "reason": "because"}));
        items.push(json!({"index": {"_id": id, "status": status, "error": error}}));
    }
    json!({"took": 1, "errors": fault != Fault::Fine, "items": items}).to_string()
}

const ROWS: &str = "
INSERT INTO arx.networks (network, native_asset) VALUES ('testnet', 'TST') ON CONFLICT DO NOTHING;
INSERT INTO arx.wallet_profiles (wallet_address, network_type, total_volume, analytics_profile)
SELECT 'w' || lpad(n::text, 3, '0'), 'testnet', n, jsonb_build_object('note', E'a \"line\"\nbreak')
  FROM generate_series(1, 25) AS n;
INSERT INTO arx.address_labels (network, address, category, severity, label, source)
VALUES ('testnet', 'w003', 'exchange', 'none', E'The \"First\"\nExchange', 'test')";

fn sync(database: &Database<'_>, url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = database.sidecar().unwrap();
    let rejects = database.data_folder().join("search.rejects");
    std::fs::create_dir_all(database.data_folder()).unwrap();
    command.args(["sync", "search", "--url", url, "--index", "wallets", "--batch", "10", "--rejects"]).arg(rejects);
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (output.status.code(), text)
}

#[test]
fn every_wallet_arrives_whatever_the_server_does() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("search_engine").unwrap();
    database.query(ROWS).unwrap();
    let engine = Arc::new(Mutex::new(Engine::default()));
    let url = serve(Arc::clone(&engine));
    let set = |faults: &[Fault]| {
        let mut engine = engine.lock().unwrap();
        (engine.faults, engine.bulks, engine.repeated) = (faults.to_vec(), 0, 0);
    };
    set(&[Fault::BusyItem, Fault::Unavailable, Fault::Fine, Fault::Lost, Fault::TooLarge]);
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!((code, text.contains("25 wallets sent")), (Some(0), true), "{text}");
    {
        let engine = engine.lock().unwrap();
        assert_eq!(engine.documents.len(), 25);
        assert!(engine.repeated > 0, "a lost answer makes its documents come again");
        let (_, first) = &engine.documents["testnet:w003"];
        assert_eq!((&first["label"], &first["total_volume"]), (&json!("The \"First\"\nExchange"), &json!("3")));
        assert_eq!(first["profile"]["note"], "a \"line\"\nbreak");
    }
    // A newer document stays, one that is refused is named, and a wallet that is gone is deleted.
    engine.lock().unwrap().documents.insert("testnet:w001".into(), (i64::MAX, json!({"synced": i64::MAX})));
    database.query("DELETE FROM arx.wallet_profiles WHERE wallet_address = 'w002'").unwrap();
    database.query("INSERT INTO arx.wallet_profiles (wallet_address, network_type) VALUES ('bad', 'testnet')").unwrap();
    set(&[]);
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("23 wallets sent, 1 stored in a newer version, 1 deleted, 1 set aside"), "{text}");
    let rejects = std::fs::read_to_string(database.data_folder().join("search.rejects")).unwrap();
    assert_eq!(rejects, "\"testnet:bad\"\t\"some_exception: because\"\n");
}

#[test]
fn an_interrupted_pass_goes_on_after_its_last_batch() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("search_again").unwrap();
    database.query(ROWS).unwrap();
    let engine = Arc::new(Mutex::new(Engine::default()));
    let url = serve(Arc::clone(&engine));
    engine.lock().unwrap().faults = vec![Fault::Fine, Fault::Denied];
    let key = database.data_folder().join("key");
    std::fs::create_dir_all(database.data_folder()).unwrap();
    std::fs::write(&key, "c2VjcmV0\n").unwrap();
    let key = key.to_str().unwrap();
    let (code, text) = sync(&database, &url, &["--api-key-file", key]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("answers 401: who are you") && !text.contains("c2VjcmV0"), "{text}");
    assert_eq!(engine.lock().unwrap().documents.len(), 10);
    assert_eq!(engine.lock().unwrap().authorization.as_deref(), Some("ApiKey c2VjcmV0"));
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("15 wallets sent, after those of an interrupted pass"), "{text}");
    assert_eq!(engine.lock().unwrap().documents.len(), 25);
    // No server, and arguments that do not fit.
    for (url, arguments, message) in [
        ("http://127.0.0.1:1", &["--restart"][..], "does not answer"),
        ("https://u:s3cr3t@localhost", &[], "hold no password"),
    ] {
        let (code, text) = sync(&database, url, arguments);
        assert!(code != Some(0) && text.contains(message) && !text.contains("s3cr3t"), "{text}");
    }
}

#[test]
fn a_stored_wallet_that_is_refused_later_stays() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("search_refused").unwrap();
    database.query(ROWS).unwrap();
    let engine = Arc::new(Mutex::new(Engine::default()));
    let url = serve(Arc::clone(&engine));
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(0), "{text}");
    // Documents of wallets that are gone are more than one request deletes.
    {
        let mut engine = engine.lock().unwrap();
        engine.refused = vec!["w005"];
        engine.deletions.clear();
        engine.documents.extend((0..10_005).map(|n| (format!("testnet:gone{n}"), (0, json!({"synced": 0})))));
    }
    // A later transaction, so that the snapshot of the next pass is a later one.
    database.query("DELETE FROM arx.wallet_profiles WHERE wallet_address = 'w006'").unwrap();
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("23 wallets sent, 0 stored in a newer version, 10006 deleted, 1 set aside"), "{text}");
    assert!(text.contains("their older versions stay in the index"), "{text}");
    {
        let engine = engine.lock().unwrap();
        assert_eq!((engine.documents.len(), engine.documents.contains_key("testnet:w005")), (24, true));
        assert_eq!(engine.deletions, [10_000, 6, 0]);
    }
    // Too many refused documents to name: nothing is deleted.
    let many = "INSERT INTO arx.wallet_profiles (wallet_address, network_type) \
                SELECT 'bad' || n, 'testnet' FROM generate_series(1, 1000) AS n";
    database.query(many).unwrap();
    database.query("DELETE FROM arx.wallet_profiles WHERE wallet_address = 'w007'").unwrap();
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("0 deleted, 1001 set aside") && text.contains("wallets that are gone stay"), "{text}");
    assert_eq!(engine.lock().unwrap().documents.len(), 24);
}

#[test]
fn a_continued_pass_remembers_what_was_refused() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("search_rejects").unwrap();
    database.query(ROWS).unwrap();
    let bad = "INSERT INTO arx.wallet_profiles (wallet_address, network_type) VALUES ('bad', 'testnet')";
    database.query(bad).unwrap();
    let engine = Arc::new(Mutex::new(Engine::default()));
    let url = serve(Arc::clone(&engine));
    let set = |faults: &[Fault]| {
        let mut engine = engine.lock().unwrap();
        (engine.faults, engine.bulks) = (faults.to_vec(), 0);
    };
    let path = database.data_folder().join("search.rejects");
    let line = |name: &str| format!("\"testnet:{name}\"\t\"some_exception: because\"\n");
    set(&[Fault::Fine, Fault::Denied]);
    assert_eq!(sync(&database, &url, &[]).0, Some(1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line("bad"));
    set(&[]);
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(
        (code, text.contains("interrupted pass"), text.contains("1 set aside")),
        (Some(2), true, true),
        "{text}"
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), line("bad"));
    // The second part of a pass adds to the file, and a new pass begins it again.
    database
        .query("INSERT INTO arx.wallet_profiles (wallet_address, network_type) VALUES ('xbad', 'testnet')")
        .unwrap();
    for _ in 0..2 {
        set(&[Fault::Fine, Fault::Denied]);
        assert_eq!(sync(&database, &url, &[]).0, Some(1));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line("bad"));
        set(&[]);
        let (code, text) = sync(&database, &url, &[]);
        assert_eq!((code, text.contains("2 set aside")), (Some(2), true), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line("bad") + &line("xbad"));
    }
    // The first part of a pass is of no use if the index is gone.
    set(&[Fault::Fine, Fault::Denied]);
    assert_eq!(sync(&database, &url, &[]).0, Some(1));
    set(&[]);
    {
        let mut engine = engine.lock().unwrap();
        engine.exists = false;
        engine.documents.clear();
    }
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!((code, text.contains("25 wallets sent, 0 stored")), (Some(2), true), "{text}");
}

#[test]
fn an_index_belongs_to_one_database() {
    let stack = Stack::shared().unwrap();
    let database = stack.database("search_owner").unwrap();
    let other = stack.database("search_stranger").unwrap();
    database.query(ROWS).unwrap();
    other.query(ROWS).unwrap();
    other.query("DELETE FROM arx.wallet_profiles WHERE wallet_address > 'w003'").unwrap();
    let engine = Arc::new(Mutex::new(Engine::default()));
    let url = serve(Arc::clone(&engine));
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(0), "{text}");
    let owner = engine.lock().unwrap().mappings["_meta"]["arx_source"].as_str().unwrap().to_owned();
    let before = engine.lock().unwrap().documents.clone();
    let (code, text) = sync(&other, &url, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("holds the wallets of database {owner}")) && text.contains("--restart"), "{text}");
    assert!(engine.lock().unwrap().documents == before);
    // After a restore to an earlier time, the documents are newer than the database.
    for (version, source) in engine.lock().unwrap().documents.values_mut() {
        *version = i64::MAX;
        source["synced"] = json!(i64::MAX);
    }
    let (code, text) = sync(&database, &url, &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("0 wallets sent, 25 stored in a newer version, 0 deleted, 0 set aside"), "{text}");
    assert!(text.contains("25 documents in the index are newer than this pass"), "{text}");
    let (code, text) = sync(&database, &url, &["--restart"]);
    assert_eq!((code, text.contains("25 wallets sent, 0 stored")), (Some(0), true), "{text}");
    // On purpose, another database takes the name of the index.
    let (code, text) = sync(&other, &url, &["--restart"]);
    assert_eq!((code, text.contains("3 wallets sent, 0 stored")), (Some(0), true), "{text}");
    assert_eq!(engine.lock().unwrap().documents.len(), 3);
    // An index that names no database is not taken over.
    engine.lock().unwrap().mappings = json!({});
    let (code, text) = sync(&other, &url, &[]);
    assert_eq!((code, text.contains("does not say which database")), (Some(1), true), "{text}");
}
