//! Planning: required months, missing partitions, retired partitions.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{Action, Bounds, Existing, Inventory, Month, PartitionError, PlanStep, Policy, free_name, partition_name};

/// Maximum number of months created ahead: a hundred years.
pub const MAX_PREMAKE: u32 = 1200;
/// Maximum number of months in one call of [`cover`]: two hundred years, beyond which a date is a
/// mistake.
pub const MAX_COVER_MONTHS: u32 = 2400;

/// Returns the steps that bring a table in line with its policy at `now`: first the partitions to
/// create, then those to retire, each oldest first. `months_in_default` are the months of rows in
/// the default partition; they get partitions, and those older than the retention are retired in
/// the same plan. O((m + p) log p) for m months and p partitions.
///
/// # Errors
/// Every [`PartitionError`] except those of parsing and of the range of [`cover`].
pub fn plan(
    policy: &Policy,
    inventory: &Inventory,
    now: DateTime<Utc>,
    months_in_default: &[Month],
) -> Result<Vec<PlanStep>, PartitionError> {
    check(policy)?;
    let current = Month::of(now)?;
    let mut wanted: BTreeSet<Month> = months_in_default.iter().copied().collect();
    let mut ahead = current;
    wanted.insert(ahead);
    for _ in 0..policy.premake {
        ahead = ahead.next().ok_or(PartitionError::NoNextMonth { month: ahead })?;
        wanted.insert(ahead);
    }
    let mut steps = create(policy, inventory, &wanted, |month| {
        if months_in_default.contains(&month) {
            format!("the default partition holds rows of {month}")
        } else if month == current {
            format!("{month} is the current month")
        } else {
            format!("{month} is within the {} months made ahead", policy.premake)
        }
    })?;
    let retired = retire(policy, &inventory.partitions, &steps, current);
    steps.extend(retired);
    Ok(steps)
}

/// Returns the steps that give every instant from `from` to `to`, both included, a partition other
/// than the default one.
///
/// # Errors
/// [`PartitionError::RangeReversed`], [`PartitionError::RangeTooLong`] beyond [`MAX_COVER_MONTHS`],
/// and those of [`plan`].
pub fn cover(
    policy: &Policy,
    inventory: &Inventory,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<PlanStep>, PartitionError> {
    check(policy)?;
    if from > to {
        return Err(PartitionError::RangeReversed { from, to });
    }
    let (first, last) = (Month::of(from)?, Month::of(to)?);
    let months = u32::try_from(first.months_until(last)).unwrap_or(u32::MAX).saturating_add(1);
    if months > MAX_COVER_MONTHS {
        return Err(PartitionError::RangeTooLong { from, to, months, limit: MAX_COVER_MONTHS });
    }
    let wanted = std::iter::successors(Some(first), |month| month.next()).take_while(|month| *month <= last).collect();
    create(policy, inventory, &wanted, |month| format!("{month} is within the range asked for"))
}

fn check(policy: &Policy) -> Result<(), PartitionError> {
    if policy.relation.is_empty() {
        return Err(PartitionError::NoRelation);
    }
    if policy.premake > MAX_PREMAKE {
        let relation = policy.relation.clone();
        return Err(PartitionError::PremakeTooLarge { relation, premake: policy.premake, limit: MAX_PREMAKE });
    }
    Ok(())
}

fn create(
    policy: &Policy,
    inventory: &Inventory,
    wanted: &BTreeSet<Month>,
    reason: impl Fn(Month) -> String,
) -> Result<Vec<PlanStep>, PartitionError> {
    let ranges = Ranges::new(&inventory.partitions);
    let mut taken = inventory.taken.clone();
    let mut steps = Vec::new();
    for &month in wanted {
        match ranges.coverage(month) {
            MonthCoverage::Whole => continue,
            MonthCoverage::Partial(partition) => {
                return Err(PartitionError::PartlyCovered {
                    relation: policy.relation.clone(),
                    month,
                    partition: partition.name.clone(),
                    bounds: partition.bounds,
                });
            }
            MonthCoverage::Nothing => {}
        }
        let partition = free_name(&partition_name(&policy.relation, month), &taken);
        taken.insert(partition.clone());
        let (from, to) = (month.from(), month.to());
        steps.push(PlanStep { action: Action::Create, partition, existing: None, from, to, reason: reason(month) });
    }
    Ok(steps)
}

/// Range partitions of a table in order of time, to find those of a month.
struct Ranges<'a> {
    sorted: Vec<(DateTime<Utc>, DateTime<Utc>, &'a Existing)>,
}

enum MonthCoverage<'a> {
    Nothing,
    /// Holds the first partition that overlaps the month.
    Partial(&'a Existing),
    Whole,
}

impl<'a> Ranges<'a> {
    fn new(existing: &'a [Existing]) -> Self {
        let range = |partition: &'a Existing| match partition.bounds {
            Bounds::Default => None,
            Bounds::Range { from, to } => {
                Some((from.unwrap_or(DateTime::<Utc>::MIN_UTC), to.unwrap_or(DateTime::<Utc>::MAX_UTC), partition))
            }
        };
        let mut sorted: Vec<_> = existing.iter().filter_map(range).collect();
        sorted.sort_by_key(|&(from, to, _)| (from, to));
        Self { sorted }
    }

    /// Finds the coverage of a month. Partitions of one table never overlap, so their ends are in
    /// order, too.
    fn coverage(&self, month: Month) -> MonthCoverage<'a> {
        let first = self.sorted.partition_point(|&(_, to, _)| to <= month.from());
        let mut covered_to = month.from();
        for &(from, to, _) in self.sorted[first..].iter().take_while(|&&(from, _, _)| from < month.to()) {
            if from > covered_to {
                break;
            }
            covered_to = to;
        }
        match self.sorted.get(first) {
            _ if covered_to >= month.to() => MonthCoverage::Whole,
            Some(&(from, _, partition)) if from < month.to() => MonthCoverage::Partial(partition),
            _ => MonthCoverage::Nothing,
        }
    }
}

/// Returns the steps that retire partitions that ended `retention` months before the current month
/// began.
fn retire(policy: &Policy, existing: &[Existing], created: &[PlanStep], current: Month) -> Vec<PlanStep> {
    // A retention that reaches back before year 1 keeps everything.
    let keep_from =
        policy.retention.and_then(|months| i32::try_from(months).ok()).and_then(|months| current.offset(-months));
    let Some(keep_from) = keep_from else { return Vec::new() };
    let retirable = existing.iter().filter_map(|partition| match partition.bounds {
        Bounds::Range { from: Some(from), to: Some(to) } => {
            let is_monthly = is_month(from, to) || is_month_name(&policy.relation, &partition.name);
            is_monthly.then_some((partition.name.as_str(), Some(partition.id), from, to))
        }
        Bounds::Range { .. } | Bounds::Default => None,
    });
    let created = created.iter().map(|step| (step.partition.as_str(), None, step.from, step.to));
    let mut expired: Vec<_> = retirable.chain(created).filter(|&(_, _, _, to)| to <= keep_from.from()).collect();
    expired.sort_by_key(|&(_, _, from, _)| from);
    let step = |(partition, existing, from, to): (&str, Option<u32>, _, _)| PlanStep {
        action: policy.retention_mode.action(),
        partition: partition.to_owned(),
        existing,
        from,
        to,
        reason: format!("it ended before {keep_from}, the oldest month that the retention keeps"),
    };
    expired.into_iter().map(step).collect()
}

fn is_month(from: DateTime<Utc>, to: DateTime<Utc>) -> bool {
    Month::of(from).is_ok_and(|month| month.from() == from && month.to() == to)
}

/// Reports whether [`partition_name`] gives a name for some month of the table.
fn is_month_name(relation: &str, name: &str) -> bool {
    let month = || {
        let (rest, month) = name.rsplit_once('_')?;
        let (_, year) = rest.rsplit_once('_')?;
        Month::new(year.parse().ok()?, month.parse().ok()?).ok()
    };
    month().is_some_and(|month| partition_name(relation, month) == name)
}
