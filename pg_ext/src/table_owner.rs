//! The role that owns the tables of users, and when ARX works with its rights.
//!
//! The owner of a table decides which code runs when it is read or changed: a view in its place,
//! casts of its columns, functions in indexes and constraints, triggers, defaults. In a query of a
//! superuser, that code would have the rights of a superuser. So a superuser's calls work with the
//! rights of the tables' owner, as does every call that changes the tables. The tables must belong
//! to one role; tables of superusers are as trustworthy as the extension, and are left out of this.

#![allow(unsafe_code, reason = "reads the catalog, and calls the handler of PL/pgSQL")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_int};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::error::{SqlError, or_report};
use crate::owner::{FormerRole, as_role, enter_role, leave_role};
use crate::snapshot::relation;
use crate::spi::{table_names, with_words};
use crate::versions::local_transaction_id;

// Of catalog/pg_inherits.h, which pgrx does not bind.
unsafe extern "C-unwind" {
    fn find_all_inheritors(parent: pg_sys::Oid, lock: c_int, parents: *mut *mut pg_sys::List) -> *mut pg_sys::List;
}

/// Owners of the tables, as far as they are no superusers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum TableOwners {
    Superusers,
    Role(pg_sys::Oid),
    Several(BTreeSet<u32>),
    /// A relation that has the name of a table and another kind, its owner, and its kind.
    NoTable {
        name: String,
        owner: pg_sys::Oid,
        kind: u8,
    },
}

/// The tables, as the catalog has them.
#[derive(Debug, Clone)]
struct Tables {
    owners: TableOwners,
    lacks_tables: bool,
}

thread_local! {
    /// `None` until it is read, and after a change of the catalog.
    static TABLES: RefCell<Option<Tables>> = const { RefCell::new(None) };
    static VERSION: Cell<u64> = const { Cell::new(0) };
    static IS_WATCHING: Cell<bool> = const { Cell::new(false) };
    static PLPGSQL_HANDLER: Cell<Option<Handler>> = const { Cell::new(None) };
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// A call that is running. It is out of date once its subtransaction has ended: an error leaves it.
#[derive(Debug, Clone, Copy)]
struct Call {
    transaction: u32,
    subtransaction: u32,
    is_job: bool,
    /// Role that the call works as, and the role that made it.
    acting: Option<(pg_sys::Oid, pg_sys::Oid)>,
}

impl Call {
    /// Notes a call, and returns the number of those before it.
    fn begin(is_job: bool, role: Option<pg_sys::Oid>) -> usize {
        // SAFETY: Reads variables of this backend, which is in a transaction.
        let (subtransaction, user) = unsafe { (pg_sys::GetCurrentSubTransactionId(), pg_sys::GetUserId()) };
        let transaction = local_transaction_id();
        let call = Self { transaction, subtransaction, is_job, acting: role.map(|role| (role, user)) };
        CALLS.with_borrow_mut(|calls| {
            while calls.last().is_some_and(|call| !call.is_running()) {
                calls.pop();
            }
            calls.push(call);
            calls.len() - 1
        })
    }

    fn end(before: usize) {
        CALLS.with_borrow_mut(|calls| calls.truncate(before));
    }

    fn is_running(self) -> bool {
        // SAFETY: Reads the state of this backend's transaction.
        local_transaction_id() == self.transaction && unsafe { pg_sys::SubTransactionIsActive(self.subtransaction) }
    }
}

/// Purpose of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads tables: the rights of the caller decide, unless it is a superuser.
    Read,
    /// Changes tables.
    Write,
}

/// Runs a function with the rights that calls of its purpose have.
pub(crate) fn as_table_owner<R>(purpose: Purpose, work: impl FnOnce() -> Result<R, SqlError>) -> Result<R, SqlError> {
    let role = acting_role(purpose)?;
    let before = Call::begin(purpose == Purpose::Write, role);
    let result = match role {
        Some(role) => as_role(role, work),
        None => work(),
    };
    Call::end(before);
    result
}

/// Returns the name of the role that has called ARX, also while ARX works as another role.
pub(crate) fn caller_name() -> String {
    // SAFETY: Reads variables of this backend.
    let (user, is_restricted) = unsafe { (pg_sys::GetUserId(), is_restricted()) };
    let of_call = CALLS.with_borrow(|calls| {
        let acting = calls.iter().rev().filter(|call| call.is_running()).filter_map(|call| call.acting);
        acting.filter(|(role, _)| is_restricted && *role == user).map(|(_, caller)| caller).next()
    });
    name_of(of_call.unwrap_or(user))
}

/// Returns true within a function of ARX that changes tables.
pub(crate) fn is_in_job() -> bool {
    CALLS.with_borrow(|calls| calls.iter().any(|call| call.is_job && call.is_running()))
}

/// Returns true within a security-restricted operation.
///
/// # Safety
/// In a backend.
unsafe fn is_restricted() -> bool {
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: Reads variables of this backend.
    unsafe { pg_sys::GetUserIdAndSecContext(&raw mut user, &raw mut context) };
    context & pg_sys::SECURITY_RESTRICTED_OPERATION as c_int != 0
}

/// Returns the role to work as, or `None` for the caller.
fn acting_role(purpose: Purpose) -> Result<Option<pg_sys::Oid>, SqlError> {
    // SAFETY: Reads variables of this backend, and the caches of roles.
    let (user, is_superuser) = unsafe {
        // Within such an operation the rights have been chosen.
        if is_restricted() {
            return Ok(None);
        }
        (pg_sys::GetUserId(), pg_sys::superuser_arg(pg_sys::GetUserId()))
    };
    let role = match tables().owners {
        TableOwners::Superusers => return Ok(None),
        TableOwners::Role(role) => role,
        TableOwners::Several(roles) => {
            let roles: Vec<String> = roles.into_iter().map(|role| role_name(role.into())).collect();
            return Err(SqlError::state(format!("tables of arx belong to several roles: {}", roles.join(", ")))
                .detail("Each role's triggers, views and functions would run with the rights of the others.")
                .hint("Give all tables to one role by ALTER TABLE … OWNER TO."));
        }
        TableOwners::NoTable { name, owner, kind } => {
            let kind = match kind {
                pg_sys::RELKIND_VIEW => "view",
                pg_sys::RELKIND_MATVIEW => "materialized view",
                pg_sys::RELKIND_FOREIGN_TABLE => "foreign table",
                _ => "relation",
            };
            return Err(SqlError::object_kind(&name, kind, "table", &role_name(owner)));
        }
    };
    if role == user || (purpose == Purpose::Read && !is_superuser) {
        return Ok(None);
    }
    // SAFETY: Reads the caches of roles; the name ends with NUL.
    let is_operator = unsafe { pg_sys::has_privs_of_role(role, pg_sys::get_role_oid(c"arx_operator".as_ptr(), true)) };
    if !is_operator {
        let name = role_name(role);
        return Err(SqlError::privilege(format!(
            "role {name}, which owns tables of arx, is not a member of arx_operator"
        ))
        .detail("The function works with the rights of the tables' owner.")
        .hint(format!("Run GRANT arx_operator TO {name}.")));
    }
    if !is_superuser {
        require_no_policies(user)?;
    }
    Ok(Some(role))
}

/// Rejects a caller to whom policies of a table apply: they do not apply to the owner.
fn require_no_policies(user: pg_sys::Oid) -> Result<(), SqlError> {
    const RLS_ENABLED: c_int = 2;
    for name in table_names().filter(|name| *name != "users") {
        let table = named(name)?;
        // SAFETY: Reads the catalog.
        if table != pg_sys::InvalidOid && unsafe { pg_sys::check_enable_rls(table, user, true) } == RLS_ENABLED {
            return Err(SqlError::row_security(name));
        }
    }
    Ok(())
}

fn named(name: &str) -> Result<pg_sys::Oid, SqlError> {
    Ok(relation(&CString::new(name).map_err(|_| SqlError::corrupt("a table's name contains a NUL byte"))?))
}

fn name_of(role: pg_sys::Oid) -> String {
    // SAFETY: Reads the catalog; the name ends with NUL.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { role.to_u32().to_string() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Returns the name of a role as SQL needs it.
fn role_name(role: pg_sys::Oid) -> String {
    spi::quote_identifier(name_of(role))
}

fn tables() -> Tables {
    watch_catalog();
    if let Some(tables) = TABLES.with_borrow(Clone::clone) {
        return tables;
    }
    // A change that arrives while the catalog is read is not kept.
    let version = VERSION.get();
    let tables = or_report(read_tables());
    if VERSION.get() == version {
        TABLES.set(Some(tables.clone()));
    }
    tables
}

fn read_tables() -> Result<Tables, SqlError> {
    let mut roles = BTreeSet::new();
    let mut lacks_tables = false;
    for name in table_names() {
        let table = named(name)?;
        if table == pg_sys::InvalidOid {
            lacks_tables = true;
            continue;
        }
        let Some((owner, kind, has_children)) = class(table) else { continue };
        if !matches!(kind, pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE) {
            let owners = TableOwners::NoTable { name: format!("arx.{name}"), owner, kind };
            return Ok(Tables { owners, lacks_tables });
        }
        roles.insert(owner.to_u32());
        if has_children {
            let tree = inheritors(table).into_iter();
            roles.extend(tree.filter_map(|member| class(member).map(|(owner, ..)| owner.to_u32())));
        }
    }
    // SAFETY: Reads the caches of roles.
    roles.retain(|role| !unsafe { pg_sys::superuser_arg((*role).into()) });
    let owners = match (roles.len(), roles.first()) {
        (1, Some(role)) => TableOwners::Role((*role).into()),
        (0, _) => TableOwners::Superusers,
        _ => TableOwners::Several(roles),
    };
    Ok(Tables { owners, lacks_tables })
}

/// Locks a table and all of its partitions as a reader does, until the end of the transaction.
pub(crate) fn lock_for_reading(table: pg_sys::Oid) {
    const LOCK: c_int = pg_sys::AccessShareLock as c_int;
    // SAFETY: Any OID may be locked.
    unsafe { pg_sys::LockRelationOid(table, LOCK) };
    inheritors_with(table, LOCK);
}

/// Returns a table and all of its partitions, by the catalog as it is now and without locks.
pub(crate) fn inheritors(table: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    inheritors_with(table, pg_sys::NoLock as c_int)
}

fn inheritors_with(table: pg_sys::Oid, lock: c_int) -> Vec<pg_sys::Oid> {
    // SAFETY: Reads the catalog. The list has as many elements as it says.
    unsafe {
        let list = pg_sys::ffi::pg_guard_ffi_boundary(|| find_all_inheritors(table, lock, std::ptr::null_mut()));
        let length = usize::try_from((*list).length).unwrap_or(0);
        std::slice::from_raw_parts((*list).elements, length).iter().map(|cell| cell.oid_value).collect()
    }
}

/// Returns owner and kind of a relation, and whether others inherit from it.
fn class(relation: pg_sys::Oid) -> Option<(pg_sys::Oid, u8, bool)> {
    // SAFETY: Reads a row of pg_class from the cache, and releases it.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::RELOID as c_int, relation.into());
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple).as_ref()?;
        let class = (form.relowner, form.relkind as u8, form.relhassubclass);
        pg_sys::ReleaseSysCache(tuple);
        Some(class)
    }
}

/// Empties the cache whenever a relation or a role changes.
fn watch_catalog() {
    if IS_WATCHING.replace(true) {
        return;
    }
    for cache in [pg_sys::SysCacheIdentifier::RELOID, pg_sys::SysCacheIdentifier::AUTHOID] {
        // SAFETY: The function lives as long as the backend.
        unsafe {
            pg_sys::CacheRegisterSyscacheCallback(cache as c_int, Some(forget_tables), pg_sys::Datum::from(0_usize))
        };
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn forget_tables(_argument: pg_sys::Datum, _cache: c_int, _hash: u32) {
    TABLES.set(None);
    VERSION.set(VERSION.get().wrapping_add(1));
}

/// The handler of the language `plpgsql_as_owner`: PL/pgSQL, with the rights that calls of a
/// function's purpose have. A volatile function changes tables, any other one reads.
///
/// An error of the function leaves this frame without unwinding, as it does a function in C, so
/// nothing here may need to be dropped then: the server's own handling resets user and settings,
/// and a noted [`Call`] is out of date.
///
/// # Safety
/// The server calls it.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn plpgsql_as_owner_handler(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: The server passes a call of an existing function, and the handler takes it.
    unsafe {
        let start = prepare((*(*call).flinfo).fn_oid);
        let result = if start.lacks_tables { call_with_words(&start, call) } else { (start.handler)(call) };
        finish(&start);
        result
    }
}

type Handler = unsafe extern "C-unwind" fn(pg_sys::FunctionCallInfo) -> pg_sys::Datum;

/// A decision about a call.
#[derive(Clone, Copy)]
#[repr(C)]
struct Start {
    handler: Handler,
    /// The state before the session worked as another role.
    former: FormerRole,
    has_former: bool,
    lacks_tables: bool,
    /// Number of calls noted before.
    before: usize,
}

/// Returns PL/pgSQL's handler. It is looked up once, because that accesses the file system.
///
/// # Safety
/// In a backend.
unsafe fn plpgsql_handler() -> Handler {
    if let Some(handler) = PLPGSQL_HANDLER.get() {
        return handler;
    }
    // SAFETY: PL/pgSQL's handler is a function of the type, and libraries are never unloaded.
    let handler = unsafe {
        let found = pg_sys::load_external_function(
            c"$libdir/plpgsql".as_ptr(),
            c"plpgsql_call_handler".as_ptr(),
            true,
            std::ptr::null_mut(),
        );
        std::mem::transmute::<*mut std::ffi::c_void, Handler>(found)
    };
    PLPGSQL_HANDLER.set(Some(handler));
    handler
}

/// Decides with which rights a function works, and takes them.
#[pg_guard]
unsafe extern "C-unwind" fn prepare(function: pg_sys::Oid) -> Start {
    // SAFETY: The function exists.
    unsafe {
        let is_job = pg_sys::func_volatile(function) as u8 == pg_sys::PROVOLATILE_VOLATILE;
        let role = or_report(acting_role(if is_job { Purpose::Write } else { Purpose::Read }));
        let handler = plpgsql_handler();
        let lacks_tables = tables().lacks_tables;
        let before = Call::begin(is_job, role);
        let former = role.map(enter_role);
        Start { handler, former: former.unwrap_or_default(), has_former: former.is_some(), lacks_tables, before }
    }
}

/// Puts back what `prepare` has changed.
#[pg_guard]
unsafe extern "C-unwind" fn finish(start: &Start) {
    if start.has_former {
        leave_role(start.former);
    }
    Call::end(start.before);
}

/// Makes a call while tables are missing: an error about one says how to create it.
#[pg_guard]
unsafe extern "C-unwind" fn call_with_words(start: &Start, call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: As in the handler; the boundary catches the server's errors.
    or_report(with_words(|| Ok(unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| (start.handler)(call)) })))
}

/// Describes the handler to the server.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pg_finfo_plpgsql_as_owner_handler() -> &'static pg_sys::Pg_finfo_record {
    const DESCRIPTION: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &DESCRIPTION
}
