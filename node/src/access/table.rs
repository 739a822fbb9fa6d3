//! The one table: what each call needs. A call without a row is refused.

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A certificate with any role.
    AnyRole,
    /// To read the keys that it names.
    Read,
    /// To write the keys that it names.
    Write,
    /// To look after nodes.
    Operate,
    /// Everything.
    Administer,
}

impl Need {
    /// The smallest role that is enough.
    pub fn role(self) -> &'static str {
        match self {
            Need::AnyRole | Need::Read => "reader",
            Need::Write => "writer",
            Need::Operate => "operator",
            Need::Administer => "admin",
        }
    }
}

/// Every call of the port for clients. Those that carry operations (`Pipeline`, `ServeClient`) need what
/// the least of these needs; each operation is then judged by the row that it has as a call of its own.
pub const TABLE: &[(&str, Need)] = &[
    ("/raftkv.v1.Kv/OpenSession", Need::Write),
    ("/raftkv.v1.Kv/Get", Need::Read),
    ("/raftkv.v1.Kv/List", Need::Read),
    ("/raftkv.v1.Kv/Set", Need::Write),
    ("/raftkv.v1.Kv/Delete", Need::Write),
    // It tells whether a key has a value, so writers are readers, too.
    ("/raftkv.v1.Kv/CompareAndSet", Need::Write),
    ("/raftkv.v1.Kv/Pipeline", Need::Read),
    ("/raftkv.v1.Classic/ServeClient", Need::Read),
    ("/raftkv.admin.v1.Admin/Status", Need::Operate),
    ("/raftkv.admin.v1.Admin/TransferLeadership", Need::Operate),
    ("/raftkv.admin.v1.Admin/TakeSnapshot", Need::Operate),
    // All keys and values.
    ("/raftkv.admin.v1.Admin/Backup", Need::Administer),
    ("/raftkv.admin.v1.Admin/ChangeMembers", Need::Administer),
    ("/raftkv.admin.v1.Admin/CutLinks", Need::Operate),
    ("/raftkv.admin.v1.Admin/HealLinks", Need::Operate),
    ("/raftkv.admin.v1.Admin/DisturbClock", Need::Operate),
    ("/grpc.health.v1.Health/Check", Need::AnyRole),
    ("/grpc.health.v1.Health/Watch", Need::AnyRole),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Need::AnyRole,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Need::AnyRole,
    ),
];

/// The row of a call.
pub fn need(path: &str) -> Option<Need> {
    let mut rows = TABLE.iter();
    rows.find(|(row, _)| *row == path).map(|(_, need)| *need)
}
