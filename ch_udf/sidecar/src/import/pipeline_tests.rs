//! The pipeline against an in-memory sink: committed rows, rejected lines, and a second run over
//! the rest.

use std::collections::BTreeMap;
use std::future::pending;
use std::io::Write;
use std::path::Path;
use std::pin::pin;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::{mpsc, oneshot};

use super::error::ImportError;
use super::load::loader::{self, ChunkSink, Loaded, Loader, Progress, Start, Step};
use super::load::rejects::{DEFAULT_LIMITS, RejectsFile};
use super::parse::decode;
use super::parse::values::fixtures::ethereum;
use super::read::chunk::{Chunk, ChunkRules, DEFAULT_RULES, Reject};
use super::read::reader::{self, Content, Reading};
use super::request::FileOptions;

const HEADER: &str = "hash,block_number,from_address,to_address,value,block_timestamp";
const ALICE: &str = "0xae2fc483527b8ef99eb5d9b44875f005ba1fae13";

/// State of a database: number of commits of each row by hash, and the committed progress.
#[derive(Debug, Default)]
struct Database {
    rows: BTreeMap<String, u32>,
    lines_done: u64,
    rejected: u64,
    finished: bool,
}

/// Commits into a [`Database`] and fails on request.
struct MemorySink<'a> {
    database: &'a mut Database,
    open: Vec<String>,
    /// Chunks after which the next load or commit fails.
    loads_left: usize,
    commits_left: usize,
    /// Hashes that loading rejects, with their lines.
    bad: Vec<(String, u64)>,
    /// Chunks that are loaded at once, and those that are: their rows and lines.
    lanes: usize,
    started: std::collections::VecDeque<(Vec<String>, u64)>,
    /// Started chunks after which one cannot be loaded next to others.
    starts_left: usize,
}

impl<'a> MemorySink<'a> {
    fn new(database: &'a mut Database) -> Self {
        Self {
            database,
            open: Vec::new(),
            loads_left: usize::MAX,
            commits_left: usize::MAX,
            bad: Vec::new(),
            lanes: 1,
            started: Default::default(),
            starts_left: usize::MAX,
        }
    }
}

fn failure() -> ImportError {
    ImportError::Read { file: "memory".into(), source: std::io::Error::other("failed as told") }
}

fn hashes(chunk: &Chunk) -> Vec<String> {
    let rows = decode::tuples(&chunk.tuples).into_iter();
    rows.map(|row| String::from_utf8(row[1].clone().unwrap()).unwrap()).collect()
}

impl ChunkSink for MemorySink<'_> {
    fn lanes(&self) -> usize {
        self.lanes
    }

    async fn start(&mut self, chunk: &Chunk) -> Result<Start, ImportError> {
        if self.lanes == 1 || chunk.rows == 0 {
            return Ok(Start::Alone);
        }
        // Every third chunk needs a partition.
        if chunk.lines_done % 12 == 1 && !self.started.is_empty() {
            return Ok(Start::Later);
        }
        self.started.push_back((hashes(chunk), chunk.lines_done));
        Ok(Start::Started)
    }

    async fn started(&mut self) -> Result<Option<Loaded>, ImportError> {
        tokio::task::yield_now().await;
        let Some((rows, _)) = self.started.front() else { return pending().await };
        if self.starts_left == 0 {
            (self.lanes, self.open) = (1, Vec::new());
            self.started.clear();
            return Ok(None);
        }
        self.starts_left -= 1;
        self.open.clone_from(rows);
        Ok(Some(Loaded { imported: u64::try_from(rows.len()).unwrap(), ..Loaded::default() }))
    }

    async fn load(&mut self, chunk: &Chunk) -> Result<Loaded, ImportError> {
        self.loads_left = self.loads_left.checked_sub(1).ok_or_else(failure)?;
        let rows = decode::tuples(&chunk.tuples);
        assert_eq!(u64::try_from(rows.len()).unwrap(), chunk.rows);
        assert_eq!(chunk.rows == 0, chunk.months.is_empty());
        let mut loaded = Loaded::default();
        for row in rows {
            let hash = String::from_utf8(row[1].clone().unwrap()).unwrap();
            if let Some((_, line)) = self.bad.iter().find(|(bad, _)| *bad == hash) {
                loaded.rejects.push(Reject {
                    line: *line,
                    reason: "unknown".into(),
                    kind: "unknown".into(),
                    text: String::new(),
                });
            } else if self.database.rows.contains_key(&hash) {
                loaded.unchanged += 1;
            } else {
                loaded.imported += 1;
                self.open.push(hash);
            }
        }
        Ok(loaded)
    }

    async fn take_back(&mut self) -> Result<u64, ImportError> {
        let taken = self.database.rows.len() as u64;
        *self.database = Database::default();
        Ok(taken)
    }

    async fn commit(&mut self, step: &Step) -> Result<(), ImportError> {
        self.commits_left = self.commits_left.checked_sub(1).ok_or_else(failure)?;
        if let Some((_, lines_done)) = self.started.pop_front() {
            assert_eq!(lines_done, step.lines_done, "chunks are committed in their order");
        }
        for hash in self.open.drain(..) {
            *self.database.rows.entry(hash).or_default() += 1;
        }
        self.database.lines_done = step.lines_done;
        self.database.rejected += step.rejected();
        Ok(())
    }

    async fn roll_back(&mut self) -> Result<(), ImportError> {
        self.open.clear();
        Ok(())
    }

    async fn finish(&mut self, lines_done: u64) -> Result<(), ImportError> {
        self.database.lines_done = lines_done;
        self.database.finished = true;
        Ok(())
    }
}

const SMALL: ChunkRules = ChunkRules { lines: 4, ..DEFAULT_RULES };

/// Imports a file from where the sink's database stands.
async fn import(path: &Path, rules: ChunkRules, sink: &mut MemorySink<'_>) -> Result<Progress, ImportError> {
    let lines_done = sink.database.lines_done;
    let content = Content::Transactions(ethereum(), FileOptions::default());
    let reading = Reading { path: path.to_owned(), content, lines_done, rules };
    let (opened_sender, opened) = oneshot::channel();
    let (sender, mut receiver) = mpsc::channel(1);
    let thread = std::thread::spawn(move || reader::read(reading, opened_sender, &sender));
    opened.await.unwrap()?;
    let mut rejects = RejectsFile::open(path.with_extension("rejects"), lines_done, DEFAULT_LIMITS)?;
    let mut total = Progress { lines_done, ..Progress::default() };
    let loader = Loader {
        file: "f.csv",
        strict: rules.strict,
        sink,
        rejects: &mut rejects,
        interrupt: pin!(pending()),
        on_progress: &mut |_| {},
    };
    let outcome = loader::load_all(loader, &mut receiver, &mut total).await;
    drop(receiver);
    thread.join().unwrap();
    outcome.map(|()| total)
}

fn hash(number: usize) -> String {
    format!("0x{number:064x}")
}

fn line(number: usize) -> String {
    format!("{},{number},{ALICE},{ALICE},{number},1683029999\n", hash(number))
}

/// A file of good lines but for every seventh, which has a column too few.
fn mixed_file(folder: &Path, count: usize) -> std::path::PathBuf {
    let body: String = (0..count).map(|i| if i % 7 == 3 { format!("bad {i},1\n") } else { line(i) }).collect();
    write(folder, format!("{HEADER}\n{body}").as_bytes())
}

fn write(folder: &Path, content: &[u8]) -> std::path::PathBuf {
    let path = folder.join("f.csv");
    std::fs::write(&path, content).unwrap();
    path
}

fn reject_lines(path: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(path.with_extension("rejects")).unwrap_or_default();
    let entry = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        (parts.next().unwrap().parse().unwrap(), serde_json::from_str(parts.next().unwrap()).unwrap())
    };
    // The first line says what the file is.
    text.lines().skip(1).map(entry).collect()
}

#[tokio::test]
async fn a_cut_at_any_chunk_leaves_each_row_once_and_each_reject_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixed_file(folder.path(), 30);
    let good = (0..30).filter(|i| i % 7 != 3).count();
    for cut in 0..9 {
        for during_commit in [false, true] {
            let mut database = Database::default();
            let mut sink = MemorySink::new(&mut database);
            if during_commit {
                sink.commits_left = cut
            } else {
                sink.loads_left = cut
            }
            let first = import(&path, SMALL, &mut sink).await;
            assert_eq!(first.is_err(), cut < 8, "30 lines in chunks of 4 are 8 chunks");
            if cut < 8 {
                assert!(!database.finished);
                assert_eq!(database.lines_done, if cut == 0 { 0 } else { 1 + 4 * u64::try_from(cut).unwrap() });
                import(&path, SMALL, &mut MemorySink::new(&mut database)).await.unwrap();
            }
            assert!(database.finished);
            assert_eq!(database.lines_done, 31);
            assert_eq!(database.rows.len(), good);
            assert!(database.rows.values().all(|times| *times == 1));
            let rejected: Vec<u64> = reject_lines(&path).into_iter().map(|(line, _)| line).collect();
            assert_eq!(rejected, [5, 12, 19, 26]);
            assert_eq!(database.rejected, 4);
        }
    }
}

#[tokio::test]
async fn chunks_that_are_loaded_at_once_are_committed_in_order_or_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixed_file(folder.path(), 60);
    let good = (0..60).filter(|i| i % 7 != 3).count();
    for (starts, cut) in [(usize::MAX, usize::MAX), (0, usize::MAX), (5, usize::MAX), (usize::MAX, 6), (4, 9)] {
        let mut database = Database::default();
        let mut sink = MemorySink::new(&mut database);
        (sink.lanes, sink.starts_left, sink.commits_left) = (3, starts, cut);
        let first = import(&path, SMALL, &mut sink).await;
        assert_eq!(first.is_err(), cut < usize::MAX);
        if first.is_err() {
            assert_eq!(database.lines_done, 1 + 4 * u64::try_from(cut).unwrap());
            let mut sink = MemorySink::new(&mut database);
            sink.lanes = 3;
            import(&path, SMALL, &mut sink).await.unwrap();
        }
        assert!(database.finished);
        assert_eq!((database.lines_done, database.rows.len(), database.rejected), (61, good, 9));
        assert!(database.rows.values().all(|times| *times == 1));
        let rejected: Vec<u64> = reject_lines(&path).into_iter().map(|(line, _)| line).collect();
        assert_eq!(rejected, [5, 12, 19, 26, 33, 40, 47, 54, 61]);
    }
}

/// A Parquet file with the rows of [`mixed_file`], whose bad lines have no number.
fn mixed_parquet(folder: &Path, count: usize) -> std::path::PathBuf {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    let schema = "message m {
        required binary hash (UTF8); optional int64 block_number; required binary from_address (UTF8);
        required binary to_address (UTF8); required int64 value; required int64 block_timestamp; required binary input;
    }";
    let path = folder.join("f.parquet");
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = parquet::file::writer::SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
    for rows in (0..count).collect::<Vec<_>>().chunks(11) {
        let mut group = writer.next_row_group().unwrap();
        let number = |i: &usize| i64::try_from(*i).unwrap();
        let texts = |text: &dyn Fn(&usize) -> String| -> Vec<ByteArray> {
            rows.iter().map(|i| ByteArray::from(text(i).into_bytes())).collect()
        };
        let is_good = |i: &usize| i % 7 != 3;
        for column in 0..7 {
            let mut writer = group.next_column().unwrap().unwrap();
            match column {
                1 => {
                    let values: Vec<i64> = rows.iter().filter(|i| is_good(i)).map(number).collect();
                    let levels: Vec<i16> = rows.iter().map(|i| i16::from(is_good(i))).collect();
                    writer.typed::<Int64Type>().write_batch(&values, Some(&levels), None)
                }
                4 => writer.typed::<Int64Type>().write_batch(&rows.iter().map(number).collect::<Vec<_>>(), None, None),
                5 => writer.typed::<Int64Type>().write_batch(&vec![1_683_029_999; rows.len()], None, None),
                0 => writer.typed::<ByteArrayType>().write_batch(&texts(&|i| hash(*i)), None, None),
                _ => writer.typed::<ByteArrayType>().write_batch(&texts(&|_| ALICE.to_owned()), None, None),
            }
            .unwrap();
            writer.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    path
}

#[tokio::test]
async fn ranges_of_parquet_are_delivered_in_order_and_continue_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixed_parquet(folder.path(), 60);
    for cut in 0..16 {
        let mut database = Database::default();
        let mut sink = MemorySink::new(&mut database);
        sink.commits_left = cut;
        let first = import(&path, SMALL, &mut sink).await;
        assert_eq!(first.is_err(), cut < 15);
        if cut < 15 {
            assert_eq!(database.lines_done, 4 * u64::try_from(cut).unwrap());
            import(&path, SMALL, &mut MemorySink::new(&mut database)).await.unwrap();
        }
        let good: Vec<String> = (0..60).filter(|i| i % 7 != 3).map(hash).collect();
        assert!(database.finished && database.rows.values().all(|times| *times == 1));
        assert_eq!((database.lines_done, database.rejected), (60, 9));
        assert!(database.rows.keys().eq(&good));
        let rejects = std::fs::read_to_string(path.with_extension("rejects")).unwrap();
        let lines: Vec<u64> = reject_lines(&path).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [4, 11, 18, 25, 32, 39, 46, 53, 60]);
        assert!(rejects.contains("block_number") && rejects.contains(&hash(3)), "{rejects}");
        assert!(!rejects.contains("input"), "columns that are not used are not read");
    }
    let rules = ChunkRules { strict: true, ..SMALL };
    let mut database = Database::default();
    let error = import(&path, rules, &mut MemorySink::new(&mut database)).await.unwrap_err();
    assert!(matches!(error, ImportError::Strict { line: 4, .. }), "{error}");
    assert!(database.rows.is_empty());
}

#[tokio::test]
async fn rows_that_are_there_are_counted_and_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixed_file(folder.path(), 10);
    let mut database = Database::default();
    import(&path, SMALL, &mut MemorySink::new(&mut database)).await.unwrap();
    database.lines_done = 0;
    let again = import(&path, SMALL, &mut MemorySink::new(&mut database)).await.unwrap();
    assert_eq!((again.tally.imported, again.tally.unchanged, again.rejected()), (0, 9, 1));
    assert!(database.rows.values().all(|times| *times == 1));
}

#[tokio::test]
async fn strict_stops_at_the_first_bad_line_and_keeps_nothing_of_its_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let body: String = (0..6).map(line).collect();
    let path = write(folder.path(), format!("{HEADER}\n{body}{}nonsense\n{}", line(6), line(7)).as_bytes());
    let mut database = Database::default();
    let rules = ChunkRules { strict: true, ..SMALL };
    let error = import(&path, rules, &mut MemorySink::new(&mut database)).await.unwrap_err();
    let expected = "f.csv, line 9: 1 columns where the header has 6 (--strict stops at the first bad line)";
    assert!(error.to_string().ends_with(expected), "{error}");
    assert_eq!((database.rows.len(), database.lines_done, database.finished), (4, 5, false));
}

#[tokio::test]
async fn what_only_loading_finds_bad_is_rejected_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let body: String = (0..3).map(line).collect();
    let path = write(folder.path(), format!("{HEADER}\n{body}x\n").as_bytes());
    let mut database = Database::default();
    let mut sink = MemorySink::new(&mut database);
    sink.bad = vec![(hash(1), 3)];
    let total = import(&path, SMALL, &mut sink).await.unwrap();
    assert_eq!((total.tally.imported, total.rejected()), (2, 2));
    assert_eq!(reject_lines(&path).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 5]);

    let mut database = Database::default();
    let mut sink = MemorySink::new(&mut database);
    sink.bad = vec![(hash(1), 3)];
    std::fs::write(&path, format!("{HEADER}\n{body}")).unwrap();
    let error = import(&path, ChunkRules { strict: true, ..SMALL }, &mut sink).await.unwrap_err();
    assert!(matches!(error, ImportError::Strict { line: 3, .. }), "{error}");
    assert!(database.rows.is_empty());
}

#[tokio::test]
async fn bad_bytes_quotes_and_ends_reject_their_own_line_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = format!("{HEADER}\r\n{}", line(0)).into_bytes();
    content.extend_from_slice(b"\xff\xfe,1\r\n\r\n");
    content.extend_from_slice(format!("\"open,1\n{}", line(1)).as_bytes());
    content.extend_from_slice(line(2).trim_end().replace("1683029999", "16").as_bytes());
    let path = write(folder.path(), &content);
    let mut database = Database::default();
    let total = import(&path, DEFAULT_RULES, &mut MemorySink::new(&mut database)).await.unwrap();
    assert_eq!((total.tally.imported, total.rejected(), total.lines_done), (2, 3, 7));
    let rejects = reject_lines(&path);
    assert_eq!(rejects[0], (3, "invalid UTF-8 at byte 1".into()));
    assert_eq!(rejects[1], (5, "a quoted field is not closed on its line".into()));
    assert_eq!(rejects[2].0, 7);
    assert!(
        rejects[2].1.starts_with("the file ends in the middle of this line: column block_timestamp"),
        "{rejects:?}"
    );
}

#[tokio::test]
async fn a_cut_gzip_imports_what_is_whole_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let body: String = (0..5000).map(|i| line(i * 7919)).collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(format!("{HEADER}\n{body}").as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let path = write(folder.path(), &packed[..packed.len() / 2]);
    let mut database = Database::default();
    let error = import(&path, DEFAULT_RULES, &mut MemorySink::new(&mut database)).await.unwrap_err();
    let ImportError::CutOff { line, .. } = error else { unreachable!("{error}") };
    assert!(line > 1000);
    assert_eq!(u64::try_from(database.rows.len()).unwrap() + 1, line);
    assert_eq!((database.lines_done, database.finished), (line, false));
}

#[tokio::test]
async fn mixed_json_lines_are_counted_apart() {
    let folder = tempfile::tempdir().unwrap();
    let transaction = |i: usize| {
        format!(
            r#"{{"type": "transaction", "hash": "{}", "from_address": "{ALICE}", "to_address": null, "value": {i}, "block_timestamp": 1683029999, "block_number": 1}}"#,
            hash(i)
        )
    };
    let content = [r#"{"type": "block"}"#, &transaction(1), r#"{"type": "log"}"#, "{", &transaction(2)].join("\n");
    let path = write(folder.path(), content.as_bytes());
    let mut database = Database::default();
    let total = import(&path, SMALL, &mut MemorySink::new(&mut database)).await.unwrap();
    let skipped = BTreeMap::from([("block".to_owned(), 1), ("log".to_owned(), 1)]);
    assert_eq!((total.tally.imported, &total.tally.skipped, total.rejected()), (2, &skipped, 1));
    assert_eq!(reject_lines(&path)[0].0, 4);
}

#[tokio::test]
async fn empty_and_foreign_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::default();
    for (content, expected) in [
        ("", "is empty: expected a header"),
        ("\n\n", "is empty: expected a header"),
        (
            "hash,value\n",
            "lacks the columns block_number, from_address, to_address, block_timestamp; its header is: hash,value",
        ),
    ] {
        let path = write(folder.path(), content.as_bytes());
        let error = import(&path, SMALL, &mut MemorySink::new(&mut database)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn an_interrupt_ends_the_import_between_commits() {
    let folder = tempfile::tempdir().unwrap();
    let path = mixed_file(folder.path(), 30);
    let mut database = Database::default();
    let mut sink = MemorySink::new(&mut database);
    let (sender, mut receiver) = mpsc::channel(1);
    sender.send(reader::Message::Chunk(Box::default())).await.unwrap();
    let mut rejects = RejectsFile::open(path.with_extension("rejects"), 0, DEFAULT_LIMITS).unwrap();
    let loader = Loader {
        file: "f.csv",
        strict: false,
        sink: &mut sink,
        rejects: &mut rejects,
        interrupt: pin!(std::future::ready(())),
        on_progress: &mut |_| {},
    };
    let error = loader::load_all(loader, &mut receiver, &mut Progress::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "interrupted after line 0 of f.csv: continue by running the same command");
    assert!(!database.finished);
}
