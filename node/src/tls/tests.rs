#[path = "../../tests/support/authority.rs"]
#[allow(dead_code)]
mod authority;

use super::*;
use crate::disk::Directory;
use authority::{Authority, Pair, Wanted, of_node, write, write_folder};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::codegen::Service;

const ID: u128 = 7;
const ID_TEXT: &str = "00000000000000000000000000000007";
const SOON: Duration = Duration::from_secs(20);

fn names() -> ClusterNames {
    ClusterNames::new(ID, "demo")
}

/// A folder of node 1, and its dump.
struct Node {
    folder: TempDir,
    dump: Dump,
    optional: bool,
}

impl Node {
    fn new(authorities: &str, pair: &Pair) -> Self {
        let folder = TempDir::new().unwrap();
        let directory = Directory::open(&folder.path().join("data")).unwrap();
        let (dump, _) = Dump::start(1, &directory, true).unwrap();
        write_folder(folder.path(), authorities, pair);
        Node {
            folder,
            dump,
            optional: false,
        }
    }

    fn load(&self) -> Result<Arc<Tls>, String> {
        let settings = TlsSettings {
            folder: self.folder.path().to_owned(),
            optional: self.optional,
        };
        Tls::load(1, names(), &settings, &self.dump).map_err(|error| error.to_string())
    }

    fn change(&self, file: &str, text: &str) {
        write(&self.folder.path().join(file), text, 0o600);
    }
}

// Files that fit are taken, whether the certificate has the cluster's id or its name.
#[tokio::test]
async fn what_fits_is_taken() {
    let ca = Authority::new("ca");
    assert!(Node::new(&ca.pem, &ca.node("demo", 1)).load().is_ok());
    let by_id = Wanted {
        uris: vec![format!("raftkv://{ID_TEXT}/node/1")],
        ..of_node("demo", 1)
    };
    let node = Node::new(&ca.pem, &ca.issue(&by_id));
    let tls = node.load().unwrap();
    let left = tls.ends().duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(29 * 24 * 3600), "{left:?}");
    // Both of two authorities are trusted.
    let both = format!("{}{}", Authority::new("other").pem, ca.pem);
    assert!(Node::new(&both, &ca.issue(&by_id)).load().is_ok());
}

// Whatever does not fit is refused, by a name that leads on; nothing of a key is ever told.
#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let good = ca.node("demo", 1);
    let issue = |change: fn(&mut Wanted<'static>)| {
        let mut wanted = of_node("demo", 1);
        change(&mut wanted);
        ca.issue(&wanted)
    };
    let of_others = Pair {
        certificate: good.certificate.clone(),
        key: ca.node("demo", 1).key,
    };
    for (pair, words) in [
        (other.node("demo", 1), "signed by nobody in ca.pem"),
        (of_others, "node.key is not the key of node.pem"),
        (
            ca.node("demo", 2),
            "not of node 1 of this cluster: it is of Node(2)",
        ),
        (ca.node("prod", 1), "it is of cluster 'prod'"),
        (ca.role("demo", "bob", "admin"), "it is of Client"),
        (
            issue(|wanted| wanted.ends_in = Some(-60)),
            "node.pem has ended",
        ),
        (
            issue(|wanted| wanted.begins_in = Some(3600)),
            "not valid yet: is this machine's clock wrong?",
        ),
        (
            issue(|wanted| wanted.dns.clear()),
            "can't be used by a node",
        ),
        (
            issue(|wanted| wanted.is_client = true),
            "can't be used by a node",
        ),
        (issue(|wanted| wanted.uris.clear()), "names no node"),
    ] {
        let error = Node::new(&ca.pem, &pair).load().unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
    let node = Node::new(&ca.pem, &good);
    let key = node.folder.path().join("node.key");
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let error = node.load().unwrap_err();
        assert!(error.contains("may be read by others"), "{error}");
        assert!(error.contains(&format!("{mode:03o}")), "{error}");
    }
    node.change(
        "node.key",
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n",
    );
    let error = node.load().unwrap_err();
    assert!(!error.contains("c2VjcmV0"), "{error}");
    node.change("ca.pem", "nothing");
    let error = node.load().unwrap_err();
    assert!(error.contains("ca.pem: it holds no certificate"), "{error}");
    fs::remove_file(node.folder.path().join("ca.pem")).unwrap();
    assert!(node.load().unwrap_err().contains("cannot read"));
}

/// What becomes of somebody who comes to a door.
async fn come(door: &Door, ca: &str, pair: Option<&Pair>) -> Result<Admitted, Option<Cause>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        roots.add(ca.unwrap()).unwrap();
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes());
            let chain = chain.map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    let client = tokio::spawn(async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("demo.raftkv").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(name, stream).await?;
        // In TLS 1.3 a refusal comes with the first word.
        stream.read(&mut [0]).await
    });
    let (stream, _) = listener.accept().await.unwrap();
    let admitted = timeout(SOON, door.open(stream)).await.expect("in time");
    if admitted.is_err() {
        let told = timeout(SOON, client).await.expect("the client is told");
        assert!(!matches!(told.unwrap(), Ok(1..)));
    }
    admitted.map_err(|error| Cause::of(&error))
}

// Each port takes those for whom it is, and nobody else, whatever else is right with the certificate.
#[tokio::test]
async fn each_port_takes_its_own() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let tls = Node::new(&ca.pem, &ca.node("demo", 1)).load().unwrap();
    let (peers, clients) = (tls.door_for_peers(), tls.door_for_clients());
    let (node, role) = (
        ca.node("demo", 2),
        ca.role("demo", "bob", "reader?prefix=app/"),
    );
    let admitted = come(&peers, &ca.pem, Some(&node)).await.unwrap();
    assert_eq!(admitted.origin.node, Some(2));
    assert!(
        admitted
            .origin
            .access
            .may_call("/grpc.health.v1.Health/Check")
            .is_err()
    );
    let admitted = come(&clients, &ca.pem, Some(&role)).await.unwrap();
    assert_eq!(admitted.origin.node, None);
    let access = &admitted.origin.access;
    assert_eq!(&*access.who, "bob");
    assert!(access.may_touch("/raftkv.v1.Kv/Get", "app/x").is_ok());
    assert!(access.may_touch("/raftkv.v1.Kv/Get", "x").is_err());

    let ended = Wanted {
        ends_in: Some(-60),
        ..of_node("demo", 2)
    };
    let not_begun = Wanted {
        begins_in: Some(3600),
        ..of_node("demo", 2)
    };
    let wrong = Some(Cause::WrongName);
    for (pair, cause) in [
        (Some(role.clone()), wrong),
        (Some(ca.node("demo", 1)), wrong), // This node itself.
        (Some(ca.node("prod", 2)), wrong),
        (Some(ca.issue(&Wanted::default())), wrong),
        (Some(other.node("demo", 2)), Some(Cause::UnknownAuthority)),
        (Some(ca.issue(&ended)), Some(Cause::Expired)),
        (Some(ca.issue(&not_begun)), Some(Cause::NotYetValid)),
        (None, Some(Cause::NoCertificate)),
    ] {
        let refused = come(&peers, &ca.pem, pair.as_ref()).await.unwrap_err();
        assert_eq!(refused, cause);
    }
    for (pair, cause) in [
        (Some(node), wrong),
        (Some(ca.role("prod", "bob", "admin")), wrong),
        (Some(ca.role("demo", "bob", "root")), wrong),
        (
            Some(other.role("demo", "bob", "admin")),
            Some(Cause::UnknownAuthority),
        ),
        (None, Some(Cause::NoCertificate)),
    ] {
        let refused = come(&clients, &ca.pem, pair.as_ref()).await.unwrap_err();
        assert_eq!(refused, cause);
    }
}

/// What becomes of somebody who says these words to a door.
async fn say(door: &Door, words: &'static [u8]) -> Result<Admitted, Option<Cause>> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(words).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let opened = timeout(SOON, door.open(stream)).await.expect("in time");
    opened.map_err(|error| Cause::of(&error))
}

// Clear text is told from TLS, and let in only while a cluster goes over.
#[tokio::test]
async fn clear_text_is_for_the_time_between() {
    let ca = Authority::new("ca");
    let mut node = Node::new(&ca.pem, &ca.node("demo", 1));
    let strict = node.load().unwrap();
    for door in [strict.door_for_peers(), strict.door_for_clients()] {
        let refused = say(&door, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        assert_eq!(refused.unwrap_err(), Some(Cause::ClearText));
    }
    node.optional = true;
    let both = node.load().unwrap();
    for door in [both.door_for_peers(), both.door_for_clients()] {
        let admitted = say(&door, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(admitted.stream, Stream::Clear(_)));
        assert_eq!(admitted.origin.node, None);
        assert!(admitted.origin.access.may_call("/any").is_ok());
    }
    // Who does speak TLS is judged all the same.
    let door = both.door_for_clients();
    let refused = come(&door, &ca.pem, Some(&ca.node("demo", 2))).await;
    assert_eq!(refused.unwrap_err(), Some(Cause::WrongName));
    let bob = ca.role("demo", "bob", "reader");
    let admitted = come(&door, &ca.pem, Some(&bob)).await.unwrap();
    assert!(
        admitted
            .origin
            .access
            .may_call("/raftkv.v1.Kv/Set")
            .is_err()
    );
}

/// Dials node 2, where somebody with this folder listens.
async fn dial(own: &Arc<Tls>, there: &Arc<Tls>) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = there.door_for_peers();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = door.open(stream).await.ok()?.stream;
        stream.write_all(b"settings").await.ok()?;
        stream.flush().await.ok()?;
        stream.read(&mut [0; 64]).await.ok()
    });
    let mut dial = own.dial(2, SOON);
    let dialed = dial.call(format!("http://{address}").parse().unwrap());
    let dialed = timeout(SOON, dialed).await.expect("in time");
    dialed.map(drop).map_err(|error| error.to_string())
}

fn there(ca: &str, id: u64, pair: &Pair) -> Arc<Tls> {
    let folder = TempDir::new().unwrap();
    let directory = Directory::open(&folder.path().join("data")).unwrap();
    let (dump, _) = Dump::start(id, &directory, true).unwrap();
    write_folder(folder.path(), ca, pair);
    let settings = TlsSettings {
        folder: folder.path().to_owned(),
        optional: false,
    };
    Tls::load(id, names(), &settings, &dump).unwrap()
}

// Whoever is dialed must be the very node that is meant, by a name and not by its address; and a refusal
// by the other side is seen by the one who dials, with its cause.
#[tokio::test]
async fn the_dialed_node_is_the_one_that_is_meant() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let both = format!("{}{}", ca.pem, other.pem);
    let own = Node::new(&ca.pem, &ca.node("demo", 1)).load().unwrap();
    let right = there(&ca.pem, 2, &ca.node("demo", 2));
    assert_eq!(dial(&own, &right).await, Ok(()));
    let wrong_node = there(&ca.pem, 3, &ca.node("demo", 3));
    let error = dial(&own, &wrong_node).await.unwrap_err();
    assert!(error.starts_with(Cause::WrongName.text()), "{error}");
    let stranger = there(&other.pem, 2, &other.node("demo", 2));
    let error = dial(&own, &stranger).await.unwrap_err();
    assert!(error.starts_with(Cause::UnknownAuthority.text()), "{error}");
    // The other side does not trust this node's authority, which trusts its own.
    let trusting = Node::new(&both, &ca.node("demo", 1)).load().unwrap();
    let error = dial(&trusting, &stranger).await.unwrap_err();
    assert!(
        error.starts_with(Cause::OwnUnknownAuthority.text()),
        "{error}"
    );
}

async fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !look() {
        assert!(start.elapsed() < SOON, "without: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

// New files are taken without a restart; what does not fit leaves the last good pair in use, and says
// why. Whoever came by an authority that is trusted no more is not welcome any more.
#[tokio::test]
async fn new_files_are_taken_and_bad_ones_are_not() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let node = Node::new(&ca.pem, &ca.node("demo", 1));
    let tls = node.load().unwrap();
    Arc::clone(&tls).follow();
    let first = tls.ends();
    let door = tls.door_for_clients();
    let bob = come(&door, &ca.pem, Some(&ca.role("demo", "bob", "reader"))).await;
    let bob = bob.unwrap().origin;
    // The first look is at what was loaded.
    tokio::time::sleep(Duration::from_millis(100)).await;

    let longer = Wanted {
        ends_in: Some(90 * 24 * 3600),
        ..of_node("demo", 1)
    };
    let pair = ca.issue(&longer);
    node.change("node.pem", &pair.certificate);
    eventually("a word of what is wrong", || tls.trouble().is_some()).await;
    let trouble = tls.trouble().unwrap();
    assert!(trouble.contains("node.key is not the key"), "{trouble}");
    assert_eq!(tls.ends(), first, "the last good pair is in use");
    assert!(
        come(&door, &ca.pem, Some(&ca.role("demo", "al", "reader")))
            .await
            .is_ok()
    );
    node.change("node.key", &pair.key);
    eventually("the new pair", || {
        tls.ends() > first && tls.trouble().is_none()
    })
    .await;
    assert!(door.still_takes(&bob));

    // Trust both, sign again, trust the new one alone.
    node.change("ca.pem", &format!("{}{}", ca.pem, other.pem));
    let mut changes = tls.changes();
    timeout(SOON, changes.changed()).await.unwrap().unwrap();
    let al = come(&door, &ca.pem, Some(&other.role("demo", "al", "reader"))).await;
    let al = al.unwrap().origin;
    let pair = other.node("demo", 1);
    node.change("node.pem", &pair.certificate);
    node.change("node.key", &pair.key);
    timeout(SOON, changes.changed()).await.unwrap().unwrap();
    assert!(door.still_takes(&bob) && door.still_takes(&al));
    node.change("ca.pem", &other.pem);
    timeout(SOON, changes.changed()).await.unwrap().unwrap();
    assert!(!door.still_takes(&bob) && door.still_takes(&al));
}

// A key is made once, is nobody else's to read, and a certificate for what it asks for is of use.
#[tokio::test]
async fn a_key_is_made_where_it_stays() {
    let ca = Authority::new("ca");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("tls");
    let request = Request::make(&path, 1, &names()).unwrap();
    let key = fs::read_to_string(path.join("node.key")).unwrap();
    let mode = fs::metadata(path.join("node.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    assert!(!request.pem.contains("PRIVATE"));
    let again = Request::make(&path, 1, &names()).unwrap();
    assert_eq!(fs::read_to_string(path.join("node.key")).unwrap(), key);
    let certificate = ca.sign(&again.pem, &of_node("demo", 1));
    let pair = Pair { certificate, key };
    assert!(Node::new(&ca.pem, &pair).load().is_ok());
    fs::write(path.join("node.key"), "nonsense").unwrap();
    let error = Request::make(&path, 1, &names()).unwrap_err().to_string();
    assert!(error.contains("no private key"), "{error}");
    let unfit = ClusterNames::new(ID, "a..b");
    assert!(Request::make(&path, 1, &unfit).is_err());
}
