use super::*;
use prost::Message;
use prost_types::FileDescriptorSet;
use std::collections::BTreeSet;

fn cluster() -> ClusterNames {
    ClusterNames::new(7, "demo")
}

fn named(uris: &[&str]) -> Result<Subject, NameError> {
    subject(uris.iter().copied(), &cluster())
}

fn client(grants: &[(Role, &str)]) -> Access {
    let grant = |(role, prefix): &(Role, &str)| Grant {
        role: *role,
        prefix: (*prefix).to_owned(),
    };
    Access::granted("bob", grants.iter().map(grant).collect::<Vec<_>>())
}

/// The paths of all calls in some descriptors.
fn calls(descriptors: &[u8]) -> Vec<String> {
    let files = FileDescriptorSet::decode(descriptors).unwrap().file;
    let mut calls = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                calls.push(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    calls
}

// Each call that a node describes to its clients stands in the table, and no other does. The service
// between nodes has no row: it is on another port, for nodes alone.
#[test]
fn every_call_has_a_row() {
    let mut described = calls(raftkv::DESCRIPTORS);
    described.retain(|path| !path.starts_with("/raftkv.raft.v1."));
    assert!(described.len() > 10, "{described:?}");
    for descriptors in [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        described.extend(calls(descriptors));
    }
    for path in &described {
        assert!(need(path).is_some(), "{path} has no row in TABLE");
    }
    let described: BTreeSet<_> = described.iter().map(String::as_str).collect();
    let rows: BTreeSet<_> = TABLE.iter().map(|(path, _)| *path).collect();
    assert_eq!(rows.len(), TABLE.len(), "a call has two rows");
    let idle: Vec<_> = rows.difference(&described).collect();
    assert!(idle.is_empty(), "rows of calls that do not exist: {idle:?}");
}

// What is in no row is refused, to everybody who comes with a certificate.
#[test]
fn without_a_row_nothing_is_allowed() {
    let denied = client(&[(Role::Admin, "")]).may_call("/raftkv.v1.Kv/New");
    assert!(denied.unwrap_err().message.contains("no row"));
    assert!(Access::open().may_call("/raftkv.v1.Kv/New").is_ok());
}

// Which role is enough for which call, and that the message names the role that is missing.
#[test]
fn roles_are_enough_for_their_calls() {
    let (get, set) = ("/raftkv.v1.Kv/Get", "/raftkv.v1.Kv/Set");
    let status = "/raftkv.admin.v1.Admin/Status";
    let cut = "/raftkv.admin.v1.Admin/CutLinks";
    let backup = "/raftkv.admin.v1.Admin/Backup";
    let health = "/grpc.health.v1.Health/Check";
    let all = [get, set, status, cut, backup, health];
    let allowed = |role| all.map(|path| client(&[(role, "")]).may_call(path).is_ok());
    assert_eq!(
        allowed(Role::Reader),
        [true, false, false, false, false, true]
    );
    assert_eq!(
        allowed(Role::Writer),
        [true, true, false, false, false, true]
    );
    assert_eq!(
        allowed(Role::Operator),
        [false, false, true, true, false, true]
    );
    assert_eq!(allowed(Role::Admin), [true; 6]);
    let denied = client(&[(Role::Reader, "app/")]).may_call(set).unwrap_err();
    assert_eq!(
        denied.message,
        "this needs the role 'writer'; the certificate of 'bob' gives reader for 'app/'"
    );
    assert_eq!(denied.missing, "writer");
}

// A role for a part of the keys is for that part: of keys, and of what is listed. Roles add up, each
// with its own keys.
#[test]
fn prefixes_bound_keys() {
    let (get, set) = ("/raftkv.v1.Kv/Get", "/raftkv.v1.Kv/Set");
    let list = "/raftkv.v1.Kv/List";
    let bob = client(&[(Role::Reader, "app/"), (Role::Writer, "app/bob/")]);
    for (path, key, fine) in [
        (get, "app/x", true),
        (get, "app/bob/x", true),
        (get, "apq", false),
        (get, "app", false),
        (get, "", false),
        (list, "app/", true),
        (list, "app/x", true),
        (list, "app", false),
        (list, "", false),
        (set, "app/x", false),
        (set, "app/bob/x", true),
    ] {
        assert_eq!(bob.may_touch(path, key).is_ok(), fine, "{path} {key}");
    }
    let denied = bob.may_touch(set, "app/x").unwrap_err();
    assert!(
        denied.message.contains("'writer' for 'app/x'"),
        "{denied:?}"
    );
    let operator = client(&[(Role::Operator, "")]);
    assert!(operator.may_touch(get, "k").is_err());
}

// Names are read as they are written, whatever stands in a prefix.
#[test]
fn names_are_read() {
    let id = "00000000000000000000000000000007";
    assert_eq!(named(&[&node_uri(id, 3)]), Ok(Subject::Node(3)));
    assert_eq!(named(&[&node_uri("demo", 3)]), Ok(Subject::Node(3)));
    for prefix in ["", "app/", "ä b?&=#%/", "100%"] {
        let grant = Grant {
            role: Role::Writer,
            prefix: prefix.into(),
        };
        let uri = role_uri("demo", &grant);
        assert!(uri.is_ascii(), "{uri}");
        assert_eq!(named(&[&uri]), Ok(Subject::Client(vec![grant])));
    }
    let other_kinds = ["https://example.org", "raftkv://demo/role/operator"];
    assert!(matches!(named(&other_kinds), Ok(Subject::Client(grants)) if grants.len() == 1));
}

// What a name does not say in so many words, it does not give.
#[test]
fn what_is_not_understood_gives_nothing() {
    for (uris, error) in [
        (vec![], NameError::Nobody),
        (vec!["https://demo/node/3"], NameError::Nobody),
        (
            vec!["raftkv://prod/node/3"],
            NameError::OtherCluster("prod".into()),
        ),
        (
            vec!["raftkv:///node/3"],
            NameError::OtherCluster(String::new()),
        ),
        (
            vec!["raftkv://demo/node/3", "raftkv://demo/role/admin"],
            NameError::Ambiguous,
        ),
        (
            vec!["raftkv://demo/node/3", "raftkv://demo/node/4"],
            NameError::Ambiguous,
        ),
        (vec!["raftkv://demo/role/reader"; 17], NameError::TooMany),
    ] {
        assert_eq!(named(&uris), Err(error), "{uris:?}");
    }
    for uri in [
        "raftkv://demo",
        "raftkv://demo/",
        "raftkv://demo/node/",
        "raftkv://demo/node/03",
        "raftkv://demo/node/0",
        "raftkv://demo/node/3/x",
        "raftkv://demo/role/root",
        "raftkv://demo/role/Admin",
        "raftkv://demo/role/admin?prefix=app/",
        "raftkv://demo/role/operator?prefix=app/",
        "raftkv://demo/role/reader?prefix=",
        "raftkv://demo/role/reader?",
        "raftkv://demo/role/reader?until=2030",
        "raftkv://demo/role/reader?prefix=a&prefix=b",
        "raftkv://demo/role/reader?prefix=%zz",
        "raftkv://demo/role/reader?prefix=%+1",
        "raftkv://demo/role/reader?prefix=%ff",
        "raftkv://demo/role/reader?prefix=a%",
    ] {
        let unknown = NameError::Unknown(uri.into());
        assert_eq!(named(&[uri]), Err(unknown.clone()), "{uri}");
        // Nor does what stands beside it, in whichever order.
        assert_eq!(named(&["raftkv://demo/role/reader", uri]), Err(unknown));
    }
}
