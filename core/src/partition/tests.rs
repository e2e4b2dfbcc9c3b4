use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;

fn month(year: i32, month: u32) -> Month {
    Month::new(year, month).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn policy(premake: u32, retention: Option<u32>, retention_mode: RetentionMode) -> Policy {
    Policy { relation: "transactions".into(), premake, retention, retention_mode }
}

fn range(name: &str, from: &str, to: &str) -> Existing {
    Existing { id: 0, name: name.into(), bounds: Bounds::Range { from: Some(at(from)), to: Some(at(to)) } }
}

fn default_partition() -> Existing {
    Existing { id: 0, name: "transactions_default".into(), bounds: Bounds::Default }
}

fn of_month(month: Month) -> Existing {
    Existing { id: 0, name: partition_name("transactions", month), bounds: Bounds::month(month) }
}

fn inventory(partitions: &[Existing]) -> Inventory {
    Inventory { partitions: partitions.to_vec(), taken: partitions.iter().map(|other| other.name.clone()).collect() }
}

fn plan(
    policy: &Policy,
    existing: &[Existing],
    now: DateTime<Utc>,
    in_default: &[Month],
) -> Result<Vec<PlanStep>, PartitionError> {
    super::plan(policy, &inventory(existing), now, in_default)
}

fn cover(
    policy: &Policy,
    existing: &[Existing],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<PlanStep>, PartitionError> {
    super::cover(policy, &inventory(existing), from, to)
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
                let bounds = Bounds::Range { from: Some(step.from), to: Some(step.to) };
                after.push(Existing { id: 0, name: step.partition.clone(), bounds });
            }
            Action::Detach | Action::Drop => after.retain(|partition| partition.name != step.partition),
        }
    }
    after
}

const NOW: &str = "2024-11-15T10:00:00Z";

#[test]
fn a_month_knows_its_bounds_and_neighbours() {
    let december = month(2023, 12);
    assert_eq!((december.from(), december.to()), (at("2023-12-01T00:00:00Z"), at("2024-01-01T00:00:00Z")));
    assert_eq!(december.next(), Some(month(2024, 1)));
    assert_eq!(month(2024, 1).prev(), Some(december));
    assert_eq!(december.to_string(), "2023_12");
    assert_eq!(month(2024, 2).to() - month(2024, 2).from(), TimeDelta::days(29));
    assert_eq!(Month::of(at("2024-02-29T23:59:59.999999Z")), Ok(month(2024, 2)));
    assert_eq!(month(2015, 7).months_until(month(2022, 11)), 88);
    assert_eq!((month(9999, 12).next(), month(1, 1).prev()), (None, None));
    for (year, number) in [(2024, 0), (2024, 13), (0, 1), (10_000, 1)] {
        assert_eq!(Month::new(year, number), Err(PartitionError::NoSuchMonth { year, month: number }));
    }
}

#[test]
fn the_current_month_and_those_ahead_are_created_over_the_turn_of_the_year() {
    let steps = plan(&policy(2, None, RetentionMode::Detach), &[default_partition()], at(NOW), &[]).unwrap();
    let expected = ["transactions_2024_11", "transactions_2024_12", "transactions_2025_01"];
    assert_eq!(summary(&steps), expected.map(|name| (Action::Create, name)));
    assert_eq!((steps[2].from, steps[2].to), (month(2025, 1).from(), month(2025, 1).to()));
}

#[test]
fn months_with_rows_in_the_default_partition_are_created_once() {
    let in_default = [month(2024, 12), month(2015, 8), month(2015, 8)];
    let steps = plan(&policy(1, None, RetentionMode::Detach), &[], at(NOW), &in_default).unwrap();
    let names = ["transactions_2015_08", "transactions_2024_11", "transactions_2024_12"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
    assert!(steps[0].reason.contains("default partition"), "{}", steps[0].reason);
}

#[test]
fn months_inside_larger_or_adjoining_partitions_are_left_alone() {
    let existing = [
        range("transactions_2024", "2024-01-01T00:00:00Z", "2024-12-01T00:00:00Z"),
        range("first_half", "2024-12-01T00:00:00Z", "2024-12-16T00:00:00Z"),
        Existing {
            id: 0,
            name: "rest".into(),
            bounds: Bounds::Range { from: Some(at("2024-12-16T00:00:00Z")), to: None },
        },
    ];
    assert_eq!(plan(&policy(6, None, RetentionMode::Detach), &existing, at(NOW), &[]), Ok(vec![]));
}

#[test]
fn a_partly_covered_month_is_an_error_that_names_both() {
    let half = range("half", "2024-11-10T00:00:00Z", "2024-11-20T00:00:00Z");
    let error = plan(&policy(0, None, RetentionMode::Detach), &[half], at(NOW), &[]).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, PartitionError::PartlyCovered { .. }));
    assert!(message.contains("2024_11") && message.contains("\"half\""), "{message}");
    let gap = [
        range("a", "2024-11-01T00:00:00Z", "2024-11-10T00:00:00Z"),
        range("b", "2024-11-11T00:00:00Z", "2024-12-01T00:00:00Z"),
    ];
    assert!(plan(&policy(0, None, RetentionMode::Detach), &gap, at(NOW), &[]).is_err());
}

#[test]
fn a_name_in_use_is_left_to_its_owner() {
    let misnamed = range("transactions_2024_11", "2020-01-01T00:00:00Z", "2020-02-01T00:00:00Z");
    let mut inventory = inventory(&[misnamed]);
    inventory.taken.insert("transactions_2024_12".into());
    inventory.taken.insert("transactions_2024_12_2".into());
    let steps = super::plan(&policy(1, None, RetentionMode::Detach), &inventory, at(NOW), &[]).unwrap();
    let names = ["transactions_2024_11_2", "transactions_2024_12_3"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
}

#[test]
fn a_step_knows_its_partition_by_identity_and_not_by_name() {
    let renamed = Existing { id: 7, name: "archived".into(), bounds: Bounds::month(month(2020, 1)) };
    let steps = plan(&policy(0, Some(1), RetentionMode::Drop), &[renamed], at(NOW), &[month(2020, 2)]).unwrap();
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
    assert_eq!(Month::all(), Ok((at("0001-01-01T00:00:00Z"), month(9999, 12).to())));
}

#[test]
fn retention_retires_whole_months_that_are_over_and_nothing_else() {
    let existing = [
        default_partition(),
        of_month(month(2024, 8)),
        of_month(month(2024, 7)),
        of_month(month(2024, 6)),
        range("another_owners_month", "2024-05-01T00:00:00Z", "2024-06-01T00:00:00Z"),
        range("another_owners_year", "2022-01-01T00:00:00Z", "2023-01-01T00:00:00Z"),
        range("transactions_2021_12", "2021-11-15T00:00:00Z", "2022-01-01T00:00:00Z"),
        Existing {
            id: 0,
            name: "old".into(),
            bounds: Bounds::Range { from: None, to: Some(at("2021-01-01T00:00:00Z")) },
        },
    ];
    let steps = plan(&policy(0, Some(3), RetentionMode::Detach), &existing, at(NOW), &[]).unwrap();
    let expected = [
        (Action::Create, "transactions_2024_11"),
        (Action::Detach, "transactions_2021_12"),
        (Action::Detach, "another_owners_month"),
        (Action::Detach, "transactions_2024_06"),
        (Action::Detach, "transactions_2024_07"),
    ];
    assert_eq!(summary(&steps), expected);
    let steps = plan(&policy(0, Some(5), RetentionMode::Drop), &existing, at(NOW), &[]).unwrap();
    assert_eq!(
        steps.last().map(|step| (step.action, step.partition.as_str())),
        Some((Action::Drop, "another_owners_month"))
    );
    let all = plan(&policy(0, Some(u32::MAX), RetentionMode::Drop), &existing, at(NOW), &[]).unwrap();
    assert_eq!(summary(&all), [(Action::Create, "transactions_2024_11")]);
}

#[test]
fn expired_rows_in_the_default_partition_get_a_partition_that_is_retired_at_once() {
    let steps = plan(&policy(0, Some(1), RetentionMode::Detach), &[], at(NOW), &[month(2020, 1)]).unwrap();
    let expected = [
        (Action::Create, "transactions_2020_01"),
        (Action::Create, "transactions_2024_11"),
        (Action::Detach, "transactions_2020_01"),
    ];
    assert_eq!(summary(&steps), expected);
}

#[test]
fn cover_creates_every_month_of_a_closed_range() {
    let policy = policy(0, None, RetentionMode::Detach);
    let steps =
        cover(&policy, &[of_month(month(2024, 1))], at("2023-12-31T23:59:59Z"), at("2024-03-01T00:00:00Z")).unwrap();
    let names = ["transactions_2023_12", "transactions_2024_02", "transactions_2024_03"];
    assert_eq!(summary(&steps), names.map(|name| (Action::Create, name)));
    let same = at(NOW);
    assert_eq!(cover(&policy, &[], same, same).unwrap().len(), 1);
}

#[test]
fn cover_rejects_reversed_and_very_long_ranges() {
    let policy = policy(0, None, RetentionMode::Detach);
    let (early, late) = (at("2000-01-01T00:00:00Z"), at("2200-01-01T00:00:00Z"));
    assert_eq!(cover(&policy, &[], late, early), Err(PartitionError::RangeReversed { from: late, to: early }));
    assert!(matches!(cover(&policy, &[], early, late), Err(PartitionError::RangeTooLong { months: 2401, .. })));
    assert_eq!(cover(&policy, &[], early, late - TimeDelta::seconds(1)).unwrap().len(), 2400);
    let outside = DateTime::<Utc>::MAX_UTC;
    assert!(matches!(cover(&policy, &[], outside, outside), Err(PartitionError::NoSuchMonth { .. })));
}

#[test]
fn invalid_policies_are_rejected() {
    let nameless = Policy { relation: String::new(), ..policy(0, None, RetentionMode::Drop) };
    assert_eq!(plan(&nameless, &[], at(NOW), &[]), Err(PartitionError::NoRelation));
    let error = plan(&policy(1201, None, RetentionMode::Drop), &[], at(NOW), &[]).unwrap_err();
    assert!(matches!(error, PartitionError::PremakeTooLarge { premake: 1201, .. }));
    let last = at("9999-12-31T00:00:00Z");
    let error = plan(&policy(1, None, RetentionMode::Drop), &[], last, &[]).unwrap_err();
    assert_eq!(error, PartitionError::NoNextMonth { month: month(9999, 12) });
    assert_eq!("detach".parse(), Ok(RetentionMode::Detach));
    assert!("delete".parse::<RetentionMode>().is_err());
}

#[test]
fn names_fit_into_63_bytes_for_any_table_name() {
    assert_eq!(partition_name(&"x".repeat(63), month(2024, 1)), format!("{}_2024_01", "x".repeat(55)));
    let name = partition_name(&"é".repeat(31), month(2024, 1));
    assert_eq!(name, format!("{}_2024_01", "é".repeat(27)));
}

fn any_month() -> impl Strategy<Value = Month> {
    (2010_i32..2030, 1_u32..=12).prop_map(|(year, number)| month(year, number))
}

proptest! {
    #[test]
    fn an_executed_plan_leaves_no_steps_and_no_overlap(
        months in proptest::collection::btree_set(any_month(), 0..40),
        in_default in proptest::collection::vec(any_month(), 0..8),
        now in any_month(),
        premake in 0_u32..24,
        retention in proptest::option::of(0_u32..60),
    ) {
        let policy = policy(premake, retention, RetentionMode::Detach);
        let mut existing: Vec<Existing> = months.into_iter().map(of_month).collect();
        existing.push(default_partition());
        let now = now.from() + TimeDelta::days(9);
        let steps = plan(&policy, &existing, now, &in_default).unwrap();
        let after = executed(&existing, &steps);
        prop_assert_eq!(plan(&policy, &after, now, &[]).unwrap(), vec![]);
        prop_assert!(after.contains(&default_partition()));
        let mut ranges: Vec<_> = after.iter().filter_map(|p| match p.bounds {
            Bounds::Range { from, to } => Some((from, to)),
            Bounds::Default => None,
        }).collect();
        ranges.sort_unstable();
        prop_assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
        prop_assert!(ranges.contains(&(Some(Month::of(now).unwrap().from()), Some(Month::of(now).unwrap().to()))));
    }

    #[test]
    fn a_covered_range_needs_no_further_steps(from in any_month(), length in 0_i64..4000, existing in proptest::collection::btree_set(any_month(), 0..20)) {
        let policy = policy(0, None, RetentionMode::Detach);
        let existing: Vec<Existing> = existing.into_iter().map(of_month).collect();
        let (from, to) = (from.from(), from.from() + TimeDelta::days(length));
        let after = executed(&existing, &cover(&policy, &existing, from, to).unwrap());
        prop_assert_eq!(cover(&policy, &after, from, to).unwrap(), vec![]);
    }

    #[test]
    fn next_and_prev_are_inverse(month in any_month(), offset in -5000_i32..5000) {
        prop_assert_eq!(month.next().unwrap().prev(), Some(month));
        if let Some(other) = month.offset(offset) {
            prop_assert_eq!(month.months_until(other), offset);
        }
    }
}
