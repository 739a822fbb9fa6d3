//! What is done with the keys and certificates of nodes, as text. Pure.
//!
//! raft-node makes its key itself, where it stays; what travels is no secret.

use super::assemble;
use super::layout::NodeLayout;
use super::shell::call;

/// What a node asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask<'a> {
    /// The program on the host.
    pub executable: &'a str,
    /// The cluster's name.
    pub cluster: &'a str,
    /// Its id; empty where it has none.
    pub cluster_id: &'a str,
}

/// Has each node make its key, unless it has one, and ask for a certificate. Answers a line `request` for
/// each line of the request, and `certificate` and `trusted` for those of what it has already.
#[must_use]
pub fn request(nodes: &[NodeLayout], ask: &Ask) -> String {
    const REQUEST: &str = r#"
# request ID TLS_DIR EXECUTABLE CLUSTER CLUSTER_ID
request() {
  if [ ! -x "$3" ]; then
    echo "raft-node is not there ($3); \`raftctl up\` brings it" >&2
    exit 1
  fi
  if [ ! -d "$2" ]; then
    mkdir -p "${2%/*}" && mkdir -m 700 "$2" || exit 1
  fi
  asked=$("$3" certificate-request --tls "$2" --cluster "$4" ${5:+--cluster-id} ${5:+"$5"} --id "$1") || exit 1
  printf '%s\n' "$asked" | sed "s/^/$1.request=/"
  lines "$1.certificate" "$2/node.pem"
  lines "$1.trusted" "$2/ca.pem"
}
"#;
    let one = |node: &NodeLayout| {
        let id = node.id.to_string();
        let words = [
            &*id,
            &node.tls_dir,
            ask.executable,
            ask.cluster,
            ask.cluster_id,
        ];
        call("request", words)
    };
    let calls: Vec<String> = nodes.iter().map(one).collect();
    assemble(&[REQUEST], &calls)
}

/// Files for one node. An empty one stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// Of which node.
    pub layout: NodeLayout,
    /// Whom it is to trust.
    pub trusted: String,
    /// Its certificate.
    pub certificate: String,
}

/// Gives nodes certificates, each file at once or not at all; whom they trust comes first.
#[must_use]
pub fn install(nodes: &[Install]) -> String {
    const INSTALL: &str = r#"
# install ID TLS_DIR TRUSTED CERTIFICATE
install() {
  lay "$2/ca.pem" "$3" && lay "$2/node.pem" "$4" || exit 1
  echo "$1.installed=yes"
}

# lay FILE TEXT
lay() {
  [ -n "$2" ] || return 0
  (umask 022 && printf '%s' "$2" >"$1.new") && mv -f "$1.new" "$1"
}
"#;
    let one = |node: &Install| {
        let id = node.layout.id.to_string();
        let words = [&*id, &node.layout.tls_dir, &node.trusted, &node.certificate];
        call("install", words)
    };
    let calls: Vec<String> = nodes.iter().map(one).collect();
    assemble(&[INSTALL], &calls)
}
