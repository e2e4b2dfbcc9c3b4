//! Generated regions: the reference of functions and relations from the catalog, and the tables of
//! settings.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use arx_sidecar::daemon::{METRICS, Metric, MetricKind};
use arx_sidecar::settings::{self, SettingReference};
use arx_stack::Database;
use serde::Deserialize;

const WIDTH: usize = 100;

/// Names of the generated regions that the documents must contain.
pub(crate) const REGIONS: [&str; 5] =
    ["functions", "relations", "extension settings", "sidecar settings", "sidecar metrics"];

/// Returns the text of a generated region.
pub(crate) fn generate(name: &str, database: &Database<'_>) -> Result<String> {
    match name {
        "functions" => functions(database),
        "relations" => relations(database),
        "extension settings" => extension_settings(database),
        "sidecar settings" => Ok(sidecar_settings()),
        "sidecar metrics" => Ok(sidecar_metrics()),
        _ => bail!("no generated region is called {name:?}"),
    }
}

/// Functions and procedures of the schema, trigger functions left out.
const FUNCTIONS: &str = "
SELECT coalesce(json_agg(json_build_object(
           'name', p.proname, 'is_procedure', p.prokind = 'p', 'comment', obj_description(p.oid, 'pg_proc'),
           'result', coalesce(pg_get_function_result(p.oid), ''),
           'arguments', (SELECT coalesce(json_agg(concat_ws(' ', nullif(a.name, ''), format_type(a.type, NULL), 'DEFAULT '
                                                    || regexp_replace(pg_get_function_arg_default(p.oid, a.number::integer),
                                                                      '::[a-z ]+(\\[\\])?$', ''))
                                                  ORDER BY a.number), '[]')
                           FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
                                WITH ORDINALITY AS a (type, name, mode, number)
                          WHERE coalesce(a.mode, 'i') IN ('i', 'b', 'v')),
           'columns', (SELECT coalesce(json_agg(concat_ws(' ', a.name, format_type(a.type, NULL)) ORDER BY a.number), '[]')
                         FROM unnest(p.proallargtypes, p.proargnames, p.proargmodes)
                              WITH ORDINALITY AS a (type, name, mode, number)
                        WHERE a.mode IN ('t', 'o')),
           'role', CASE WHEN has_function_privilege('arx_reader', p.oid, 'EXECUTE') THEN 'arx_reader'
                        WHEN has_function_privilege('arx_analyst', p.oid, 'EXECUTE') THEN 'arx_analyst'
                        WHEN has_function_privilege('arx_operator', p.oid, 'EXECUTE') THEN 'arx_operator' END)
           ORDER BY p.proname, p.oid::regprocedure::text), '[]')
  FROM pg_proc AS p
 WHERE p.pronamespace = 'arx'::regnamespace AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)";

#[derive(Deserialize)]
struct Function {
    name: String,
    is_procedure: bool,
    comment: Option<String>,
    result: String,
    arguments: Vec<String>,
    columns: Vec<String>,
    role: Option<String>,
}

impl Function {
    fn page(&self) -> String {
        let mut text = format!("### {}\n\n", self.name);
        if let Some(comment) = &self.comment {
            text += &wrapped(&sentence(comment));
            text.push('\n');
        }
        let call = if self.is_procedure { "CALL " } else { "" };
        text += "```\n";
        text += &list(&format!("{call}arx.{}", self.name), &self.arguments);
        if !self.columns.is_empty() {
            let is_set = self.result.starts_with("TABLE") || self.result.starts_with("SETOF");
            text += &list(if is_set { "RETURNS TABLE " } else { "RETURNS " }, &self.columns);
        } else if !self.is_procedure {
            let _ = writeln!(text, "RETURNS {}", self.result);
        }
        text + "```\n\n"
    }
}

fn functions(database: &Database<'_>) -> Result<String> {
    let functions: Vec<Function> = rows(database, FUNCTIONS)?;
    let mut text = String::new();
    let sections = [
        ("Read-only functions", "`arx_reader` may call these.", Some("arx_reader")),
        ("Functions for analysts", "`arx_analyst` may call these, and so may `arx_operator`.", Some("arx_analyst")),
        ("Functions that change state", "`arx_operator` may call these.", Some("arx_operator")),
    ];
    for (title, introduction, role) in sections {
        let _ = write!(text, "## {title}\n\n{introduction}\n\n");
        for function in functions.iter().filter(|function| function.role.as_deref() == role) {
            text += &function.page();
        }
    }
    Ok(text.trim_end().to_owned() + "\n")
}

/// Returns the functions that a role may call and that a page does not link to.
pub(crate) fn functions_without_link(database: &Database<'_>, page: &str) -> Result<Vec<String>> {
    let functions: Vec<Function> = rows(database, FUNCTIONS)?;
    let callable = functions.into_iter().filter(|function| function.role.is_some());
    Ok(callable.map(|function| function.name).filter(|name| !page.contains(&format!("](#{name})"))).collect())
}

const RELATIONS: &str = "
SELECT coalesce(json_agg(json_build_object(
           'name', c.relname, 'kind', CASE c.relkind WHEN 'v' THEN 'view' ELSE 'table' END,
           'comment', obj_description(c.oid, 'pg_class')) ORDER BY c.relname), '[]')
  FROM pg_class AS c
 WHERE c.relnamespace = 'arx'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition";

#[derive(Deserialize)]
struct Relation {
    name: String,
    kind: String,
    comment: Option<String>,
}

fn relations(database: &Database<'_>) -> Result<String> {
    let relations: Vec<Relation> = rows(database, RELATIONS)?;
    let mut text = String::from("| relation | kind | content |\n|---|---|---|\n");
    for Relation { name, kind, comment } in relations {
        let _ = writeln!(text, "| `{name}` | {kind} | {} |", cell(&sentence(&comment.unwrap_or_default())));
    }
    Ok(text)
}

const SETTINGS: &str = "
SELECT coalesce(json_agg(json_build_object(
           'name', s.name, 'unit', coalesce(s.unit, ''), 'default', current_setting(s.name),
           'values', coalesce(array_to_string(s.enumvals, ' or '),
                              format('from %s', s.min_val)
                              || CASE WHEN s.max_val <> '2147483647' THEN format(' to %s', s.max_val) ELSE '' END, ''),
           'context', s.context, 'meaning', concat_ws(' ', s.short_desc, s.extra_desc)) ORDER BY s.name), '[]')
  FROM pg_settings AS s WHERE s.name LIKE 'arx.%'";

#[derive(Deserialize)]
struct Setting {
    name: String,
    unit: String,
    default: String,
    values: String,
    context: String,
    meaning: String,
}

fn extension_settings(database: &Database<'_>) -> Result<String> {
    // A session knows the settings once it has loaded the library.
    let settings: Vec<Setting> = rows(database, &format!("LOAD 'arx'; {SETTINGS}"))?;
    let mut text = String::from(
        "| setting | unit | default | values | set by | takes effect | meaning |\n|---|---|---|---|---|---|---|\n",
    );
    for Setting { name, unit, default, values, context, meaning } in settings {
        let (by, effect) = match &*context {
            "user" => ("every role", "at once"),
            "superuser" => ("superusers", "at once"),
            "sighup" => ("`postgresql.conf`", "after a reload"),
            "postmaster" => ("`postgresql.conf`", "after a restart"),
            other => bail!("{name} has the context {other:?}, which the page does not explain"),
        };
        let _ = writeln!(text, "| `{name}` | {unit} | `{default}` | {values} | {by} | {effect} | {} |", cell(&meaning));
    }
    Ok(text)
}

fn sidecar_settings() -> String {
    let mut text = String::from(
        "| setting | unit | default | values | flag | takes effect after | meaning |\n|---|---|---|---|---|---|---|\n",
    );
    for SettingReference { name, unit, default, range, flag, effect, meaning } in settings::reference() {
        let default = if default.is_empty() { default } else { format!("`{default}`") };
        let flag = flag.map(|flag| format!("`{flag}`")).unwrap_or_default();
        let _ = writeln!(text, "| `{name}` | {unit} | {default} | {range} | {flag} | {effect} | {} |", cell(meaning));
    }
    text
}

fn sidecar_metrics() -> String {
    let mut text = String::from("| metric | kind | meaning |\n|---|---|---|\n");
    for Metric { name, kind, help } in METRICS {
        let kind = match kind {
            MetricKind::Gauge => "gauge".to_owned(),
            MetricKind::Histogram => "histogram".to_owned(),
            MetricKind::Counter { label: None } => "counter".to_owned(),
            MetricKind::Counter { label: Some(label) } => format!("counter by `{label}`"),
        };
        let _ = writeln!(text, "| `{name}` | {kind} | {} |", cell(help));
    }
    text
}

fn rows<T: for<'de> Deserialize<'de>>(database: &Database<'_>, sql: &str) -> Result<Vec<T>> {
    let json = database.query(sql)?.replace("timestamp with time zone", "timestamptz");
    serde_json::from_str(&json).context("read the catalog as JSON")
}

/// Returns text that fits into a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Returns a comment of the catalog, which has no capital letter and no full stop, as a sentence.
/// A name at its beginning stays as it is.
fn sentence(comment: &str) -> String {
    let begins_with_name = comment.split(' ').next().is_some_and(|word| word.contains(['_', '(']));
    let mut letters = comment.chars();
    let first = letters.next().filter(|_| !begins_with_name).map(|letter| letter.to_uppercase().to_string());
    let text = first.map_or_else(|| comment.to_owned(), |first| first + letters.as_str());
    if text.ends_with('.') { text } else { text + "." }
}

fn wrapped(text: &str) -> String {
    let options = textwrap::Options::new(WIDTH)
        .break_words(false)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::fill(text, options) + "\n"
}

/// Returns `head(item, …)`: on one line if it fits, otherwise one item a line.
fn list(head: &str, items: &[String]) -> String {
    let line = format!("{head}({})", items.join(", "));
    if line.chars().count() <= WIDTH {
        return line + "\n";
    }
    format!("{head}(\n    {}\n)\n", items.join(",\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_break_where_they_are_long() {
        let items = |count| (0..count).map(|number| format!("argument_{number} integer")).collect::<Vec<_>>();
        assert_eq!(list("arx.f", &items(2)), "arx.f(argument_0 integer, argument_1 integer)\n");
        let long = list("arx.f", &items(9));
        assert!(
            long.starts_with("arx.f(\n    argument_0 integer,\n") && long.ends_with("    argument_8 integer\n)\n"),
            "{long}"
        );
    }

    #[test]
    fn comments_become_sentences() {
        assert_eq!(sentence("the features of a wallet"), "The features of a wallet.");
        assert_eq!(sentence("Done."), "Done.");
        assert_eq!(sentence("alert_rules in force"), "alert_rules in force.");
    }
}
