use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn key(text: &str) -> Key {
    at(text).timestamp_micros()
}

fn grid(interval: &str, zone: &str) -> Grid {
    Grid::parse(Axis::Timestamp, interval, zone).unwrap()
}

fn months() -> Grid {
    grid("1 month", "UTC")
}

fn month(year: i32, number: u32) -> Cell {
    months().cell(key(&format!("{year:04}-{number:02}-01T00:00:00Z"))).unwrap()
}

fn policy(premake: u32, retention: Option<u32>, retention_mode: RetentionMode) -> Policy {
    Policy {
        premake,
        retention: retention.map(Interval::Months),
        retention_mode,
        ..Policy::new("transactions", months())
    }
}

fn bounds(from: &str, to: &str) -> Bounds {
    Bounds::Range { from: Some(key(from)), to: Some(key(to)) }
}

fn range(name: &str, from: &str, to: &str) -> Existing {
    Existing::new(0, name, bounds(from, to))
}

fn default_partition() -> Existing {
    Existing::new(0, "transactions_default", Bounds::Default)
}

fn of_month(cell: Cell) -> Existing {
    Existing::new(0, partition_name("transactions", &months(), cell), Bounds::cell(cell))
}

fn inventory(partitions: &[Existing]) -> Inventory {
    Inventory { partitions: partitions.to_vec(), taken: partitions.iter().map(|other| other.name.clone()).collect() }
}

fn rows_of(cells: &[Cell]) -> Waiting {
    Waiting { keys: cells.iter().map(|cell| cell.from()).collect(), ..Waiting::default() }
}

fn plan(
    policy: &Policy,
    existing: &[Existing],
    now: &str,
    in_default: &[Cell],
) -> Result<Vec<PlanStep>, PartitionError> {
    super::plan(policy, &inventory(existing), Some(key(now)), &rows_of(in_default))
}

fn cover(policy: &Policy, existing: &[Existing], from: &str, to: &str) -> Result<Vec<PlanStep>, PartitionError> {
    super::cover(policy, &inventory(existing), key(from), key(to))
}

fn summary(steps: &[PlanStep]) -> Vec<(Action, &str)> {
    steps.iter().map(|step| (step.action, step.partition.as_str())).collect()
}

/// Returns the partitions of the table after a plan was executed.
fn executed(existing: &[Existing], steps: &[PlanStep]) -> Vec<Existing> {
    let mut after = existing.to_vec();
    for step in steps {
        match step.action {
            Action::Create => {
                let bounds = Bounds::range(step.from, step.to);
                after.push(Existing::new(0, step.partition.clone(), bounds));
            }
            Action::Detach | Action::Drop | Action::Move | Action::Archive | Action::Finalize => {
                after.retain(|partition| partition.name != step.partition);
            }
            Action::SetTablespace => {
                for partition in after.iter_mut().filter(|partition| partition.name == step.partition) {
                    partition.tablespace.clone_from(&step.tablespace);
                }
            }
            Action::Quarantine | Action::Leave | Action::Blocked => {}
        }
    }
    after
}

const NOW: &str = "2024-11-15T10:00:00Z";
const DETACH: RetentionMode = RetentionMode::Detach;

#[test]
fn a_month_knows_its_bounds_and_neighbours() {
    let months = months();
    let december = month(2023, 12);
    assert_eq!((december.from(), december.to()), (key("2023-12-01T00:00:00Z"), key("2024-01-01T00:00:00Z")));
    assert_eq!(months.next(december), Some(month(2024, 1)));
    assert_eq!(months.suffix(december), "2023_12");
    assert_eq!(month(2024, 2).to() - month(2024, 2).from(), 29 * 86_400_000_000);
    assert_eq!(months.cell(key("2024-02-29T23:59:59.999999Z")), Ok(month(2024, 2)));
    assert_eq!(months.next(month(9999, 12)), None);
    assert_eq!(months.before(month(2024, 1), Interval::Months(13)), Some(month(2022, 12).from()));
    assert_eq!(months.before(month(1, 1), Interval::Months(1)), Some(key("0000-12-01T00:00:00Z")));
    assert!(matches!(months.cell(key("2024-01-01T00:00:00Z") * 1000), Err(PartitionError::NoCell { .. })));
}

#[test]
fn intervals_are_parsed_as_people_and_postgresql_write_them() {
    let parsed = |text: &str| Interval::time(text).unwrap();
    for (text, interval) in [
        ("1 month", Interval::Months(1)),
        ("monthly", Interval::Months(1)),
        ("quarter", Interval::Months(3)),
        ("1 year 6 mons", Interval::Months(18)),
        ("2 Weeks", Interval::Days(14)),
        ("1 day", Interval::Days(1)),
        ("01:30:00", Interval::Minutes(90)),
        ("1 day 06:00:00", Interval::Minutes(30 * 60)),
    ] {
        assert_eq!(parsed(text), interval, "{text}");
        assert_eq!(parsed(&interval.to_string()), interval, "{interval}");
    }
    for text in
        ["", "0 months", "00:00:00", "1 month 3 days", "-1 month", "month 1 x", "1 fortnight", "1:60", "5000 years"]
    {
        assert!(Interval::time(text).is_err(), "{text}");
    }
    assert!(matches!(Interval::time("0 days"), Err(PartitionError::IntervalZero { .. })));
    assert!(matches!(Interval::time("1 mon 1 day"), Err(PartitionError::IntervalMixed { .. })));
    assert_eq!(Interval::number(" 1000000 "), Ok(Interval::Number(1_000_000)));
    for text in ["0", "-5", "1 month", "1.5"] {
        assert!(Interval::number(text).is_err(), "{text}");
    }
    assert!(Grid::parse(Axis::Date, "1 hour", "UTC").is_err());
    assert!(Grid::parse(Axis::Timestamp, "1 month", "Mars/Olympus").is_err());
}

#[test]
fn names_tell_the_range() {
    let name = |interval, time| {
        let grid = grid(interval, "UTC");
        grid.suffix(grid.cell(key(time)).unwrap())
    };
    let time = "2024-12-31T17:45:00Z";
    assert_eq!(name("1 year", time), "2024");
    assert_eq!(name("1 quarter", time), "2024_q4");
    assert_eq!(name("1 week", time), "2025_w01");
    assert_eq!(name("1 day", time), "2024_12_31");
    assert_eq!(name("1 hour", time), "2024_12_31_1700");
    let numbers = Grid::parse(Axis::Number, "1000", "UTC").unwrap();
    let name = |key| numbers.suffix(numbers.cell(key).unwrap());
    assert_eq!((name(1999).as_str(), name(-1).as_str()), ("p1000", "m1000"));
}

#[test]
fn epochs_are_divided_like_times() {
    let (seconds, millis) = (
        Grid::parse(Axis::Seconds, "1 month", "UTC").unwrap(),
        Grid::parse(Axis::Milliseconds, "1 month", "UTC").unwrap(),
    );
    let cell = seconds.cell(1_706_000_000).unwrap();
    assert_eq!((cell.from(), cell.to()), (1_704_067_200, 1_706_745_600));
    let cell = millis.cell(1_706_000_000_000).unwrap();
    assert_eq!((cell.from(), cell.to()), (1_704_067_200_000, 1_706_745_600_000));
    // Milliseconds taken for seconds.
    assert!(seconds.cell(1_706_000_000_000).is_err());
}

#[test]
fn days_follow_the_clock_of_their_zone() {
    let berlin = grid("1 day", "Europe/Berlin");
    let hours = |time| {
        let cell = berlin.cell(key(time)).unwrap();
        (cell.to() - cell.from()) / 3_600_000_000
    };
    assert_eq!(
        (hours("2024-03-31T12:00:00Z"), hours("2024-10-27T12:00:00Z"), hours("2024-06-01T12:00:00Z")),
        (23, 25, 24)
    );
    // Midnight does not exist, or exists twice.
    let paulo = grid("1 day", "America/Sao_Paulo");
    let cell = paulo.cell(key("2018-11-04T03:00:00Z")).unwrap();
    assert_eq!((cell.from(), paulo.suffix(cell).as_str()), (key("2018-11-04T03:00:00Z"), "2018_11_04"));
    let folded = paulo.cell(key("2018-02-18T02:30:00Z")).unwrap();
    assert_eq!(paulo.suffix(folded), "2018_02_17");
    // A day that a whole zone skipped.
    let apia = grid("1 day", "Pacific/Apia");
    let before = apia.cell(key("2011-12-30T09:59:59Z")).unwrap();
    let after = apia.next(before).unwrap();
    assert_eq!((apia.suffix(before).as_str(), apia.suffix(after).as_str()), ("2011_12_29", "2011_12_31"));
    assert_eq!(before.to(), after.from());
}

#[test]
fn the_current_month_and_those_ahead_are_created_over_the_turn_of_the_year() {
    let steps = plan(&policy(2, None, DETACH), &[default_partition()], NOW, &[]).unwrap();
    let expected = ["transactions_2024_11", "transactions_2024_12", "transactions_2025_01"];
    assert_eq!(summary(&steps), expected.map(|name| (Action::Create, name)));
    assert_eq!((steps[2].from, steps[2].to), (Some(month(2025, 1).from()), Some(month(2025, 1).to())));
}

#[test]
fn months_with_rows_in_the_default_partition_are_created_once_and_after_those_ahead() {
    let in_default = [month(2024, 12), month(2015, 8), month(2015, 8)];
    let steps = plan(&policy(1, None, DETACH), &[], NOW, &in_default).unwrap();
    let names = ["transactions_2024_11", "transactions_2024_12", "transactions_2015_08"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
    assert_eq!(steps.iter().map(|step| step.has_rows).collect::<Vec<_>>(), [false, true, true]);
    assert!(steps[2].reason.contains("default partition"), "{}", steps[2].reason);
}

#[test]
fn months_inside_larger_or_adjoining_partitions_are_left_alone() {
    let existing = [
        range("transactions_2024", "2024-01-01T00:00:00Z", "2024-12-01T00:00:00Z"),
        range("first_half", "2024-12-01T00:00:00Z", "2024-12-16T00:00:00Z"),
        Existing::new(0, "rest", Bounds::Range { from: Some(key("2024-12-16T00:00:00Z")), to: None }),
    ];
    assert_eq!(plan(&policy(6, None, DETACH), &existing, NOW, &[]), Ok(vec![]));
}

#[test]
fn a_partly_covered_month_is_reported_and_the_others_are_created() {
    let half = range("half", "2024-11-10T00:00:00Z", "2024-11-20T00:00:00Z");
    let steps = plan(&policy(1, None, DETACH), std::slice::from_ref(&half), NOW, &[]).unwrap();
    let expected = [(Action::Blocked, "transactions_2024_11"), (Action::Create, "transactions_2024_12")];
    assert_eq!(summary(&steps), expected);
    assert!(steps[0].reason.contains("2024_11") && steps[0].reason.contains("\"half\""), "{}", steps[0].reason);
    let error = cover(&policy(0, None, DETACH), &[half], NOW, NOW).unwrap_err();
    assert!(matches!(error, PartitionError::PartlyCovered { .. }));
    let gap = [
        range("a", "2024-11-01T00:00:00Z", "2024-11-10T00:00:00Z"),
        range("b", "2024-11-11T00:00:00Z", "2024-12-01T00:00:00Z"),
    ];
    assert!(cover(&policy(0, None, DETACH), &gap, NOW, NOW).is_err());
}

#[test]
fn a_name_in_use_is_left_to_its_owner() {
    let misnamed = range("transactions_2024_11", "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z");
    let mut inventory = inventory(&[misnamed]);
    inventory.taken.insert("transactions_2024_12".into());
    inventory.taken.insert("transactions_2024_12_2".into());
    let steps = super::plan(&policy(1, None, DETACH), &inventory, Some(key(NOW)), &Waiting::default()).unwrap();
    let names = ["transactions_2024_11_2", "transactions_2024_12_3"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
}

#[test]
fn a_step_knows_its_partition_by_identity_and_not_by_name() {
    let renamed = Existing::new(7, "archived", Bounds::cell(month(2020, 1)));
    let steps = plan(&policy(0, Some(1), RetentionMode::Drop), &[renamed], NOW, &[month(2020, 2)]).unwrap();
    let retired: Vec<_> = steps.iter().filter(|step| step.action == Action::Drop).collect();
    assert_eq!((retired[0].existing, retired[0].partition.as_str()), (Some(7), "archived"));
    assert_eq!((retired[1].existing, retired[1].partition.as_str()), (None, "transactions_2020_02"));
}

#[test]
fn names_of_networks_are_plain_and_give_way_to_others() {
    assert_eq!(network_partition_name("wallet_profiles", "eip155:10"), "wallet_profiles_eip155_10");
    let taken = BTreeSet::from(["wallet_profiles_default".to_owned()]);
    let name = free_name(&network_partition_name("wallet_profiles", "default"), &taken);
    assert_eq!(
        (name.as_str(), part_name(&name, 3).as_str()),
        ("wallet_profiles_default_2", "wallet_profiles_default_2_p3")
    );
    let long = "n".repeat(80);
    let taken = BTreeSet::from(["n".repeat(63), format!("{}_2", "n".repeat(61))]);
    assert_eq!(free_name(&long, &taken), format!("{}_3", "n".repeat(61)));
}

#[test]
fn misfits_are_counted_and_the_first_is_named() {
    let one = Misfits { count: 1, first: Some(("ethereum".into(), "0xa1".into())) };
    let text =
        "1 row has a time outside the years 1 to 9999; correct or delete them: the first is 0xa1 of network ethereum";
    assert_eq!(one.to_string(), text);
    let hidden = Misfits { count: 2, first: None };
    assert_eq!(hidden.to_string(), "2 rows have a time outside the years 1 to 9999; correct or delete them");
    let waiting = Waiting { misfits: Some(hidden), ..Waiting::default() };
    let steps = super::plan(&policy(0, None, DETACH), &inventory(&[]), Some(key(NOW)), &waiting).unwrap();
    assert_eq!(steps.last().map(|step| step.action), Some(Action::Leave));
}

#[test]
fn times_that_cannot_be_true_are_quarantined_if_the_policy_says_so() {
    let policy = Policy { quarantine: true, earliest: Some(month(2009, 1).from()), ..policy(1, None, DETACH) };
    let in_default = [month(1970, 1), month(2015, 8), month(2106, 2), month(2025, 11)];
    let steps = plan(&policy, &[], NOW, &in_default).unwrap();
    let expected = [
        (Action::Create, "transactions_2024_11"),
        (Action::Create, "transactions_2024_12"),
        (Action::Create, "transactions_2015_08"),
        (Action::Create, "transactions_2025_11"),
        (Action::Quarantine, "transactions_quarantine"),
    ];
    assert_eq!(summary(&steps), expected);
    let reason = &steps[4].reason;
    assert!(reason.contains("1970-01-01") && reason.contains("2106-02-01"), "{reason}");
    let misfits = Some(Misfits { count: 2, first: Some(("ethereum".into(), "0xa1".into())) });
    let waiting = Waiting { misfits, ..Waiting::default() };
    let steps = super::plan(&policy, &inventory(&[]), Some(key(NOW)), &waiting).unwrap();
    let text = "2 rows have a time that cannot be true, before 2009-01-01 00:00:00+00 or from 2026-01-01 00:00:00+00 on: \
                the first is 0xa1 of network ethereum";
    assert_eq!(steps.last().map(|step| step.reason.as_str()), Some(text));
    let trusting = Policy { quarantine: false, ..policy };
    assert!(plan(&trusting, &[], NOW, &in_default).unwrap().iter().all(|step| step.action == Action::Create));
}

#[test]
fn partitions_move_to_the_tablespace_of_their_age() {
    let tablespaces = vec![(Interval::Months(6), "warm".to_owned()), (Interval::Months(12), "cold".to_owned())];
    let policy = Policy { tablespaces, ..policy(0, Some(24), DETACH) };
    let mut existing = [month(2024, 11), month(2024, 10), month(2024, 4), month(2023, 9), month(2020, 1)].map(of_month);
    existing[3].tablespace = Some("warm".into());
    let steps = plan(&policy, &existing, NOW, &[]).unwrap();
    let moves: Vec<_> =
        steps.iter().map(|step| (step.action, step.partition.as_str(), step.tablespace.as_deref())).collect();
    let expected = [
        (Action::SetTablespace, "transactions_2023_09", Some("cold")),
        (Action::SetTablespace, "transactions_2024_04", Some("warm")),
        (Action::Detach, "transactions_2020_01", None),
    ];
    assert_eq!(moves, expected);
    assert_eq!(plan(&policy, &executed(&existing, &steps), NOW, &[]), Ok(vec![]));
}

#[test]
fn retention_retires_whole_months_that_are_over_and_reports_others() {
    let existing = [
        default_partition(),
        of_month(month(2024, 8)),
        of_month(month(2024, 7)),
        of_month(month(2024, 6)),
        range("another_owners_month", "2024-05-01T00:00:00Z", "2024-06-01T00:00:00Z"),
        range("another_owners_year", "2022-01-01T00:00:00Z", "2023-01-01T00:00:00Z"),
        range("transactions_2021_12", "2021-11-15T00:00:00Z", "2022-01-01T00:00:00Z"),
        Existing::new(0, "old", Bounds::Range { from: None, to: Some(key("2021-01-01T00:00:00Z")) }),
    ];
    let steps = plan(&policy(0, Some(3), DETACH), &existing, NOW, &[]).unwrap();
    let expected = [
        (Action::Create, "transactions_2024_11"),
        (Action::Leave, "old"),
        (Action::Detach, "transactions_2021_12"),
        (Action::Leave, "another_owners_year"),
        (Action::Detach, "another_owners_month"),
        (Action::Detach, "transactions_2024_06"),
        (Action::Detach, "transactions_2024_07"),
    ];
    assert_eq!(summary(&steps), expected);
    let steps = plan(&policy(0, Some(5), RetentionMode::Drop), &existing, NOW, &[]).unwrap();
    assert_eq!(
        steps.last().map(|step| (step.action, step.partition.as_str())),
        Some((Action::Drop, "another_owners_month"))
    );
    let all = plan(&policy(0, Some(1_000_000), RetentionMode::Drop), &existing, NOW, &[]).unwrap();
    assert_eq!(summary(&all), [(Action::Create, "transactions_2024_11")]);
}

#[test]
fn expired_rows_in_the_default_partition_get_a_partition_that_is_retired_in_the_same_plan() {
    let steps = plan(&policy(0, Some(1), DETACH), &[], NOW, &[month(2020, 1)]).unwrap();
    let expected = [
        (Action::Create, "transactions_2024_11"),
        (Action::Create, "transactions_2020_01"),
        (Action::Detach, "transactions_2020_01"),
    ];
    assert_eq!(summary(&steps), expected);
    let policy = policy(0, Some(1), DETACH);
    let expired = |to| is_expired(&policy, Some(key(NOW)), key(to)).unwrap();
    assert!(expired("2024-10-01T00:00:00Z") && !expired("2024-11-01T00:00:00Z"));
}

#[test]
fn an_interrupted_detach_is_completed() {
    let half = Existing { is_pending: true, ..of_month(month(2020, 1)) };
    let steps = plan(&policy(0, Some(1), RetentionMode::Drop), &[half], NOW, &[]).unwrap();
    assert_eq!(summary(&steps)[1..], [(Action::Finalize, "transactions_2020_01")]);
}

#[test]
fn integers_are_made_ahead_of_the_greatest_in_the_table() {
    let grid = Grid::parse(Axis::Number, "1000", "UTC").unwrap();
    let policy = Policy { premake: 2, retention: Some(Interval::Number(1500)), ..Policy::new("events", grid) };
    let steps = super::plan(&policy, &Inventory::default(), None, &Waiting::default()).unwrap();
    assert_eq!(steps.iter().map(|step| step.from).collect::<Vec<_>>(), [Some(0), Some(1000), Some(2000)]);
    let existing: Vec<_> = (0..5)
        .map(|cell| {
            Existing::new(0, format!("p{cell}"), Bounds::Range { from: Some(cell * 1000), to: Some((cell + 1) * 1000) })
        })
        .collect();
    let steps = super::plan(&policy, &inventory(&existing), Some(3_500), &Waiting::default()).unwrap();
    assert_eq!(summary(&steps), [(Action::Create, "events_p5000"), (Action::Detach, "p0")]);
}

#[test]
fn cells_at_the_ends_of_a_type_have_no_bound_there() {
    let numbers = |width: &str| Grid::parse(Axis::Number, width, "UTC").unwrap();
    let small = numbers("10000").within(i64::from(i16::MIN), i64::from(i16::MAX));
    let bounds = |grid: &Grid, key| grid.cell(key).map(|cell| Bounds::cell(cell).print(grid)).unwrap();
    assert_eq!(bounds(&small, 32_767), "FROM 30000 TO MAXVALUE");
    assert_eq!(bounds(&small, -32_768), "FROM MINVALUE TO -30000");
    assert_eq!(bounds(&small, 29_999), "FROM 20000 TO 30000");
    assert!(matches!(small.cell(32_768), Err(PartitionError::NoCell { .. })));
    let wide = numbers("1000000");
    assert_eq!(bounds(&wide, Key::MAX), "FROM 9223372036854000000 TO MAXVALUE");
    assert_eq!(bounds(&wide, Key::MIN), "FROM MINVALUE TO -9223372036854000000");
    for (grid, last) in [(small, 32_767), (wide, Key::MAX)] {
        let cell = grid.cell(last).unwrap();
        assert!(grid.is_cell(cell.from(), cell.to()) && grid.next(cell).is_none());
    }
    // A time that 32 bits can hold.
    let seconds =
        Grid::parse(Axis::Seconds, "1 month", "UTC").unwrap().within(i64::from(i32::MIN), i64::from(i32::MAX));
    assert_eq!(bounds(&seconds, i64::from(i32::MAX)), "FROM 2145916800 TO MAXVALUE");
    assert_eq!(seconds.suffix(seconds.cell(0).unwrap()), "1970_01");
}

#[test]
fn times_of_a_clock_are_divided_as_the_clock_shows_them() {
    let grid = |axis| Grid::parse(axis, "1 day", "Europe/Berlin").unwrap();
    // Half past midnight in Berlin, where the clock is put forward on this day.
    let now = at("2026-03-28T23:30:00Z");
    let bounds = |grid: Grid| Bounds::cell(grid.cell(grid.key(now).unwrap()).unwrap()).print(&grid);
    assert_eq!(bounds(grid(Axis::Local)), "FROM 2026-03-29 00:00:00 TO 2026-03-30 00:00:00");
    assert_eq!(bounds(grid(Axis::Date)), "FROM 2026-03-29 TO 2026-03-30");
    assert_eq!(bounds(grid(Axis::Timestamp)), "FROM 2026-03-28 23:00:00+00 TO 2026-03-29 22:00:00+00");
}

#[test]
fn nothing_is_made_behind_the_last_integer() {
    let grid = Grid::parse(Axis::Number, "10000", "UTC").unwrap().within(i64::from(i16::MIN), i64::from(i16::MAX));
    let policy = Policy { premake: 3, quarantine: true, ..Policy::new("events", grid) };
    let waiting = Waiting { keys: vec![-32_768, 32_767], ..Waiting::default() };
    let steps = super::plan(&policy, &Inventory::default(), Some(29_000), &waiting).unwrap();
    let names = ["events_p20000", "events_p30000", "events_min"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
    let after = executed(&[], &steps);
    assert_eq!(super::plan(&policy, &inventory(&after), Some(32_767), &Waiting::default()).unwrap(), vec![]);
    // The first range is retired as any other.
    let policy = Policy { retention: Some(Interval::Number(10_000)), ..policy };
    let steps = super::plan(&policy, &inventory(&after), Some(29_000), &Waiting::default()).unwrap();
    assert_eq!(summary(&steps), [(Action::Detach, "events_min")]);
}

#[test]
fn rows_without_a_key_are_reported_and_stay() {
    let waiting = Waiting { without_key: 2, ..Waiting::default() };
    let policy = Policy { quarantine: true, ..policy(0, None, DETACH) };
    let steps = super::plan(&policy, &inventory(&[]), Some(key(NOW)), &waiting).unwrap();
    let last = steps.last().unwrap();
    assert_eq!(
        (last.action, last.reason.as_str()),
        (Action::Leave, "2 rows without a key stay in the default partition")
    );
}

#[test]
fn cover_creates_every_month_of_a_closed_range() {
    let policy = policy(0, None, DETACH);
    let steps = cover(&policy, &[of_month(month(2024, 1))], "2023-12-31T23:59:59Z", "2024-03-01T00:00:00Z").unwrap();
    let names = ["transactions_2023_12", "transactions_2024_02", "transactions_2024_03"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
    assert_eq!(cover(&policy, &[], NOW, NOW).unwrap().len(), 1);
}

#[test]
fn cover_rejects_reversed_and_very_long_ranges() {
    let policy = policy(0, None, DETACH);
    let (early, late) = ("2000-01-01T00:00:00Z", "2200-01-01T00:00:00Z");
    assert!(matches!(cover(&policy, &[], late, early), Err(PartitionError::RangeReversed { .. })));
    assert!(matches!(cover(&policy, &[], early, late), Err(PartitionError::RangeTooLong { cells: 2401, .. })));
    assert_eq!(cover(&policy, &[], early, "2199-12-31T23:59:59Z").unwrap().len(), 2400);
    let outside = super::cover(&policy, &Inventory::default(), Key::MAX, Key::MAX);
    assert!(matches!(outside, Err(PartitionError::NoCell { .. })));
}

#[test]
fn invalid_policies_are_rejected() {
    let nameless = Policy { relation: String::new(), ..policy(0, None, RetentionMode::Drop) };
    assert_eq!(plan(&nameless, &[], NOW, &[]), Err(PartitionError::NoRelation));
    let error = plan(&policy(1201, None, RetentionMode::Drop), &[], NOW, &[]).unwrap_err();
    assert!(matches!(error, PartitionError::PremakeTooLarge { premake: 1201, .. }));
    let error = plan(&policy(1, None, RetentionMode::Drop), &[], "9999-12-31T00:00:00Z", &[]).unwrap_err();
    assert_eq!(error, PartitionError::NoNextCell { name: "9999_12".into() });
    assert_eq!("detach".parse(), Ok(DETACH));
    assert!("delete".parse::<RetentionMode>().is_err());
}

#[test]
fn names_fit_into_63_bytes_for_any_table_name() {
    let name = |relation: &str| partition_name(relation, &months(), month(2024, 1));
    assert_eq!(name(&"x".repeat(63)), format!("{}_2024_01", "x".repeat(55)));
    assert_eq!(name(&"é".repeat(31)), format!("{}_2024_01", "é".repeat(27)));
}

fn any_month() -> impl Strategy<Value = Cell> {
    (2010_i32..2030, 1_u32..=12).prop_map(|(year, number)| month(year, number))
}

fn any_grid() -> impl Strategy<Value = Grid> {
    const INTERVALS: &[&str] =
        &["1 month", "3 months", "5 months", "1 year", "1 week", "1 day", "10 days", "1 hour", "90 minutes"];
    const ZONES: &[&str] =
        &["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"];
    const AXES: &[Axis] = &[Axis::Timestamp, Axis::Seconds, Axis::Milliseconds];
    let parse = |(axis, interval, zone)| Grid::parse(axis, interval, zone).unwrap();
    (proptest::sample::select(AXES), proptest::sample::select(INTERVALS), proptest::sample::select(ZONES))
        .prop_map(parse)
}

proptest! {
    #[test]
    fn cells_have_no_gap_and_no_overlap(grid in any_grid(), second in 0_i64..4_000_000_000) {
        let key = grid.key(DateTime::from_timestamp(second, 0).unwrap()).unwrap();
        let cell = grid.cell(key).unwrap();
        prop_assert!(cell.from() <= key && key < cell.to());
        let next = grid.next(cell).unwrap();
        prop_assert_eq!(cell.to(), next.from());
        prop_assert_eq!(grid.cell(cell.to() - 1).unwrap(), cell);
        prop_assert_eq!(grid.cell(cell.from()).unwrap(), cell);
        prop_assert!(grid.is_cell(cell.from(), cell.to()) && !grid.is_cell(cell.from(), next.to()));
        prop_assert!(grid.suffix(cell) != grid.suffix(next) || grid.interval() == Interval::Months(5));
        let mut walked = cell;
        for _ in 0..20 {
            walked = grid.next(walked).unwrap();
        }
        prop_assert_eq!(grid.count(key, walked.from()).unwrap() >= 21, true);
    }

    #[test]
    fn integers_are_divided_without_gap(width in 1_i64..1_000_000, key in -1_000_000_000_i64..1_000_000_000) {
        let grid = Grid::parse(Axis::Number, &width.to_string(), "UTC").unwrap();
        let cell = grid.cell(key).unwrap();
        prop_assert!(cell.from() <= key && key < cell.to() && cell.to() - cell.from() == width);
        prop_assert_eq!(grid.next(cell).unwrap().from(), cell.to());
    }

    #[test]
    fn an_executed_plan_leaves_no_steps_and_no_overlap(
        grid in any_grid(),
        existing in proptest::collection::btree_set(0_i64..3_000, 0..30),
        in_default in proptest::collection::vec(0_i64..3_000, 0..8),
        now in 0_i64..3_000,
        premake in 0_u32..24,
        retention in proptest::option::of(1_u32..60),
        mode in proptest::sample::select(&[RetentionMode::Detach, RetentionMode::Drop, RetentionMode::Move][..]),
    ) {
        let key = |day: i64| grid.key(at("2015-01-01T00:00:00Z") + TimeDelta::days(day)).unwrap();
        let retention = retention.map(Interval::Months);
        let policy = Policy { premake, retention, retention_mode: mode, ..Policy::new("events", grid) };
        let cells: BTreeSet<Cell> = existing.into_iter().map(|day| grid.cell(key(day)).unwrap()).collect();
        let mut existing: Vec<Existing> =
            cells.into_iter().map(|cell| Existing::new(0, partition_name("events", &grid, cell), Bounds::cell(cell))).collect();
        existing.push(Existing::new(0, "events_default", Bounds::Default));
        let waiting = Waiting { keys: in_default.into_iter().map(key).collect(), ..Waiting::default() };
        let now = key(now);
        let steps = super::plan(&policy, &inventory(&existing), Some(now), &waiting).unwrap();
        let after = executed(&existing, &steps);
        prop_assert_eq!(super::plan(&policy, &inventory(&after), Some(now), &Waiting::default()).unwrap(), vec![]);
        prop_assert!(after.iter().any(|partition| partition.bounds == Bounds::Default));
        let mut ranges: Vec<_> = after.iter().filter_map(|p| match p.bounds {
            Bounds::Range { from, to } => Some((from.unwrap(), to.unwrap())),
            Bounds::Default => None,
        }).collect();
        ranges.sort_unstable();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        let current = grid.cell(now).unwrap();
        prop_assert!(ranges.contains(&(current.from(), current.to())));
    }

    #[test]
    fn a_covered_range_needs_no_further_steps(
        from in any_month(), length in 0_i64..4000, existing in proptest::collection::btree_set(any_month(), 0..20)
    ) {
        let policy = policy(0, None, DETACH);
        let existing: Vec<Existing> = existing.into_iter().map(of_month).collect();
        let (from, to) = (from.from(), from.from() + length * 86_400_000_000);
        let after = executed(&existing, &super::cover(&policy, &inventory(&existing), from, to).unwrap());
        prop_assert_eq!(super::cover(&policy, &inventory(&after), from, to).unwrap(), vec![]);
    }
}
