//! Planning: required cells, missing partitions, retired partitions.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Action, Axis, Bounds, Cell, Existing, Inventory, Key, PartitionError, PlanStep, Policy, RetentionMode, Waiting,
    free_name, partition_name, quarantine_name,
};

/// Maximum number of partitions created ahead: a hundred years of months.
pub const MAX_PREMAKE: u32 = 1200;
/// Maximum number of partitions in one call of [`cover`]: two hundred years of months, beyond which
/// a date is a mistake.
pub const MAX_COVER: u64 = 2400;
/// Number of cells after those made ahead in which a time may still be true.
pub const MAX_AHEAD: u32 = 12;

/// Returns the steps that bring a table in line with its policy: first the partitions to create,
/// those ahead before those of rows in the default partition, then rows to quarantine, then
/// partitions to move to another tablespace and to retire, oldest first. `now` is the current key:
/// the time, or the greatest integer in the table; `None` for an empty table. Cells of rows that
/// are older than the retention are retired in the same plan. O((c + p) log p) for c cells and p
/// partitions.
///
/// # Errors
/// [`PartitionError::NoRelation`], [`PartitionError::PremakeTooLarge`], [`PartitionError::NoCell`],
/// [`PartitionError::NoNextCell`].
pub fn plan(
    policy: &Policy,
    inventory: &Inventory,
    now: Option<Key>,
    waiting: &Waiting,
) -> Result<Vec<PlanStep>, PartitionError> {
    check(policy)?;
    let grid = &policy.grid;
    let current = grid.cell(now.unwrap_or(0))?;
    let (mut ahead, mut last) = (vec![current], current);
    for _ in 0..policy.premake {
        if last.is_last() {
            break;
        }
        last = grid.next(last).ok_or_else(|| PartitionError::NoNextCell { name: grid.suffix(last) })?;
        ahead.push(last);
    }
    let is_true = truth(policy, latest(policy, now)?);
    let (credible, absurd): (Vec<Key>, Vec<Key>) = waiting.keys.iter().partition(|key| is_true(**key));
    let waiting_cells = credible.into_iter().map(|key| grid.cell(key)).collect::<Result<BTreeSet<_>, _>>()?;
    let noun = grid.interval().noun();
    let mut creator = Creator::new(policy, inventory);
    for cell in ahead {
        creator.add(cell, waiting_cells.contains(&cell), || {
            let name = grid.suffix(cell);
            if waiting_cells.contains(&cell) {
                format!("the default partition holds rows of {name}")
            } else if cell == current {
                format!("{name} is the current {noun}")
            } else {
                format!("{name} is within the {} {noun}s made ahead", policy.premake)
            }
        });
    }
    for &cell in &waiting_cells {
        creator.add(cell, true, || format!("the default partition holds rows of {}", grid.suffix(cell)));
    }
    let mut steps = creator.steps;
    steps.extend(rows_left(policy, waiting, &absurd, latest(policy, now)?));
    steps.extend(rows_without_key(policy, waiting));
    steps.extend(upkeep(policy, inventory, current));
    steps.extend(retire(policy, &inventory.partitions, &steps, current));
    Ok(steps)
}

/// Returns the steps that give every key from `from` to `to`, both included, a partition other than
/// the default one.
///
/// # Errors
/// [`PartitionError::RangeReversed`], [`PartitionError::RangeTooLong`] beyond [`MAX_COVER`],
/// [`PartitionError::PartlyCovered`], and those of [`plan`].
pub fn cover(policy: &Policy, inventory: &Inventory, from: Key, to: Key) -> Result<Vec<PlanStep>, PartitionError> {
    check(policy)?;
    let grid = &policy.grid;
    if from > to {
        return Err(PartitionError::RangeReversed { from: grid.print(from), to: grid.print(to) });
    }
    let cells = grid.count(from, to)?;
    if cells > MAX_COVER {
        let (from, to) = (grid.print(from), grid.print(to));
        return Err(PartitionError::RangeTooLong { from, to, cells, limit: MAX_COVER });
    }
    let mut creator = Creator::new(policy, inventory);
    let cells = std::iter::successors(Some(grid.cell(from)?), |cell| grid.next(*cell));
    for cell in cells.take_while(|cell| cell.from() <= to) {
        // The default partition may hold rows of it.
        creator.add(cell, true, || format!("{} is within the range asked for", grid.suffix(cell)));
        if let Some(error) = creator.blocked.pop_first() {
            return Err(error.1);
        }
    }
    Ok(creator.steps)
}

/// Returns true if the retention retires a partition with these bounds at `now`.
///
/// # Errors
/// [`PartitionError::NoCell`].
pub fn is_expired(policy: &Policy, now: Option<Key>, to: Key) -> Result<bool, PartitionError> {
    let current = policy.grid.cell(now.unwrap_or(0))?;
    Ok(keep_from(policy, current).is_some_and(|keep_from| to <= keep_from))
}

/// Returns the first key that the retention keeps. One that reaches back before every key keeps
/// everything.
fn keep_from(policy: &Policy, current: Cell) -> Option<Key> {
    policy.retention.and_then(|age| policy.grid.before(current, age))
}

/// Returns the first key that is too late to be true at `now`.
///
/// # Errors
/// [`PartitionError::NoCell`].
pub fn latest(policy: &Policy, now: Option<Key>) -> Result<Key, PartitionError> {
    let current = policy.grid.cell(now.unwrap_or(0))?;
    let ahead = std::iter::successors(Some(current), |cell| policy.grid.next(*cell));
    Ok(ahead.take(policy.premake.saturating_add(MAX_AHEAD) as usize + 1).last().unwrap_or(current).to())
}

/// Returns the test for keys that can be true, given the first one that is too late.
fn truth(policy: &Policy, latest: Key) -> impl Fn(Key) -> bool {
    let (is_checked, earliest) = (policy.quarantine, policy.earliest);
    move |key| !is_checked || ((key < latest || latest == Key::MAX) && earliest.is_none_or(|earliest| key >= earliest))
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

/// Collects the steps that create partitions.
struct Creator<'a> {
    policy: &'a Policy,
    ranges: Ranges<'a>,
    taken: BTreeSet<String>,
    added: BTreeSet<Cell>,
    steps: Vec<PlanStep>,
    blocked: BTreeMap<Cell, PartitionError>,
}

impl<'a> Creator<'a> {
    fn new(policy: &'a Policy, inventory: &'a Inventory) -> Self {
        let (added, steps, blocked) = (BTreeSet::new(), Vec::new(), BTreeMap::new());
        Self {
            policy,
            ranges: Ranges::new(&inventory.partitions),
            taken: inventory.taken.clone(),
            added,
            steps,
            blocked,
        }
    }

    /// Adds the step for a cell, unless a partition covers it.
    fn add(&mut self, cell: Cell, has_rows: bool, reason: impl FnOnce() -> String) {
        if !self.added.insert(cell) {
            return;
        }
        let Policy { relation, grid, .. } = self.policy;
        let partition = partition_name(relation, grid, cell);
        let step = |action, partition, reason| PlanStep {
            action,
            partition,
            existing: None,
            from: Some(cell.from()),
            to: Some(cell.to()),
            has_rows,
            tablespace: None,
            reason,
        };
        match self.ranges.coverage(cell) {
            Coverage::Whole => {}
            Coverage::Partial(other) => {
                let error = PartitionError::PartlyCovered {
                    noun: grid.interval().noun(),
                    name: grid.suffix(cell),
                    relation: relation.clone(),
                    partition: other.name.clone(),
                    bounds: other.bounds.print(grid),
                };
                self.steps.push(step(Action::Blocked, partition, error.to_string()));
                self.blocked.insert(cell, error);
            }
            Coverage::Nothing => {
                let partition = free_name(&partition, &self.taken);
                self.taken.insert(partition.clone());
                self.steps.push(step(Action::Create, partition, reason()));
            }
        }
    }
}

/// Range partitions of a table in order, to find those of a cell.
struct Ranges<'a> {
    sorted: Vec<(Key, Key, &'a Existing)>,
}

enum Coverage<'a> {
    Nothing,
    /// Holds the first partition that overlaps the cell.
    Partial(&'a Existing),
    Whole,
}

impl<'a> Ranges<'a> {
    fn new(existing: &'a [Existing]) -> Self {
        let range = |partition: &'a Existing| match partition.bounds {
            Bounds::Default => None,
            Bounds::Range { from, to } => Some((from.unwrap_or(Key::MIN), to.unwrap_or(Key::MAX), partition)),
        };
        let mut sorted: Vec<_> = existing.iter().filter_map(range).collect();
        sorted.sort_by_key(|&(from, to, _)| (from, to));
        Self { sorted }
    }

    /// Finds the coverage of a cell. Partitions of one table never overlap, so their ends are in
    /// order, too.
    fn coverage(&self, cell: Cell) -> Coverage<'a> {
        let first = self.sorted.partition_point(|&(_, to, _)| to <= cell.from());
        let mut covered_to = cell.from();
        for &(from, to, _) in self.sorted[first..].iter().take_while(|&&(from, _, _)| from < cell.to()) {
            if from > covered_to {
                break;
            }
            covered_to = to;
        }
        match self.sorted.get(first) {
            _ if covered_to >= cell.to() => Coverage::Whole,
            Some(&(from, _, partition)) if from < cell.to() => Coverage::Partial(partition),
            _ => Coverage::Nothing,
        }
    }
}

/// Returns what happens to rows in the default partition that get no partition.
fn rows_left(policy: &Policy, waiting: &Waiting, absurd: &[Key], latest: Key) -> Option<PlanStep> {
    let grid = &policy.grid;
    let step = |action, partition, reason| PlanStep {
        action,
        partition,
        existing: None,
        from: None,
        to: None,
        has_rows: true,
        tablespace: None,
        reason,
    };
    if policy.quarantine && (!absurd.is_empty() || waiting.misfits.is_some()) {
        let mut reason = match (absurd.iter().min(), absurd.iter().max()) {
            (Some(first), Some(last)) if first == last => {
                format!("the default partition holds rows of about {}, which cannot be true", grid.print(*first))
            }
            (Some(first), Some(last)) => {
                let (first, last) = (grid.print(*first), grid.print(*last));
                format!("the default partition holds rows between about {first} and {last} that cannot be true")
            }
            _ => String::new(),
        };
        if let Some(misfits) = &waiting.misfits {
            let join = if reason.is_empty() { "" } else { "; " };
            let earliest = policy.earliest.map(|earliest| format!("before {} or ", grid.print(earliest)));
            let fault =
                format!("that cannot be true, {}from {} on", earliest.unwrap_or_default(), grid.print_bound(latest));
            reason = format!("{reason}{join}{}", misfits.describe(&fault));
        }
        return Some(step(Action::Quarantine, quarantine_name(&policy.relation), reason));
    }
    let misfits = waiting.misfits.as_ref()?;
    let reason = match grid.axis() {
        Axis::Number => misfits.describe("that is no integer of 64 bits; correct or delete them"),
        _ => misfits.to_string(),
    };
    Some(step(Action::Leave, policy.relation.clone(), reason))
}

/// Reports rows in the default partition whose key is null: no range can hold them.
fn rows_without_key(policy: &Policy, waiting: &Waiting) -> Option<PlanStep> {
    let (rows, stay) = match waiting.without_key {
        0 => return None,
        1 => ("row", "stays"),
        _ => ("rows", "stay"),
    };
    Some(PlanStep {
        action: Action::Leave,
        partition: policy.relation.clone(),
        existing: None,
        from: None,
        to: None,
        has_rows: true,
        tablespace: None,
        reason: format!("{} {rows} without a key {stay} in the default partition", waiting.without_key),
    })
}

/// Returns the steps that complete interrupted detaches and move partitions to other tablespaces.
fn upkeep(policy: &Policy, inventory: &Inventory, current: Cell) -> Vec<PlanStep> {
    let mut steps = Vec::new();
    let mut ages: Vec<(Key, Tier<'_>)> = policy
        .tablespaces
        .iter()
        .filter_map(|(age, tablespace)| {
            policy.grid.before(current, *age).map(|key| (key, Tier { age: age.to_string(), tablespace }))
        })
        .collect();
    ages.sort_by_key(|(key, _)| *key);
    for partition in &inventory.partitions {
        let Bounds::Range { from, to } = partition.bounds else { continue };
        let step = |action, tablespace, reason| PlanStep {
            action,
            partition: partition.name.clone(),
            existing: Some(partition.id),
            from,
            to,
            has_rows: false,
            tablespace,
            reason,
        };
        if partition.is_pending {
            let reason = "an interrupted DETACH CONCURRENTLY has left it half detached".to_owned();
            steps.push(step(Action::Finalize, None, reason));
            continue;
        }
        let Some(to) = to else { continue };
        let is_expired = keep_from(policy, current).is_some_and(|keep_from| to <= keep_from);
        if is_expired && policy.retention_mode != RetentionMode::Move {
            continue;
        }
        // The oldest limit that it has passed.
        let wanted = ages.iter().find(|(limit, _)| to <= *limit).map(|(_, wanted)| wanted);
        if let Some(Tier { age, tablespace }) = wanted
            && partition.tablespace.as_deref() != Some(tablespace.as_str())
        {
            let reason = format!("it ended {age} before the current {}, or earlier", policy.grid.interval().noun());
            steps.push(step(Action::SetTablespace, Some((*tablespace).clone()), reason));
        }
    }
    steps.sort_by_key(|step| step.from);
    steps
}

/// An age as text, and the tablespace from that age on.
struct Tier<'a> {
    age: String,
    tablespace: &'a String,
}

/// Returns the steps that retire partitions.
fn retire(policy: &Policy, existing: &[Existing], created: &[PlanStep], current: Cell) -> Vec<PlanStep> {
    let Some(keep_from) = keep_from(policy, current) else { return Vec::new() };
    let grid = &policy.grid;
    let mut steps = Vec::new();
    let mut add = |action: Action, partition: &str, existing, from, to, reason| {
        let partition = partition.to_owned();
        steps.push(PlanStep { action, partition, existing, from, to, has_rows: false, tablespace: None, reason });
    };
    let action = policy.retention_mode.action();
    let age = policy.retention.map(|age| age.to_string()).unwrap_or_default();
    let runner = if action == Action::Archive { "; arx-sidecar maintain archives it" } else { "" };
    let reason = || format!("it ended before {}: the retention is {age}{runner}", grid.print(keep_from));
    for partition in existing.iter().filter(|partition| !partition.is_pending) {
        let Bounds::Range { from, to: Some(to) } = partition.bounds else { continue };
        if to > keep_from {
            continue;
        }
        let is_cell = grid.is_cell(from.unwrap_or(Key::MIN), to);
        let is_ours = is_cell || from.is_some_and(|from| has_name(policy, &partition.name, from));
        if is_ours {
            add(action, &partition.name, Some(partition.id), from, Some(to), reason());
        } else {
            let noun = grid.interval().noun();
            let reason = format!("{}, but it is not one {noun}; retire it by hand", reason());
            add(Action::Leave, &partition.name, Some(partition.id), from, Some(to), reason);
        }
    }
    for step in created.iter().filter(|step| step.action == Action::Create) {
        if step.to.is_some_and(|to| to <= keep_from) {
            add(action, &step.partition, None, step.from, step.to, reason());
        }
    }
    steps.sort_by_key(|step| step.from);
    steps
}

/// Returns true if [`partition_name`] gives a partition that begins in the cell of `from`, or in
/// the one after, this name.
fn has_name(policy: &Policy, name: &str, from: Key) -> bool {
    let cell = policy.grid.cell(from).ok();
    let cells = [cell, cell.and_then(|cell| policy.grid.next(cell))];
    cells.into_iter().flatten().any(|cell| partition_name(&policy.relation, &policy.grid, cell) == name)
}
