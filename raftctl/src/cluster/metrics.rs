//! The key `metrics`: whether nodes tell their figures to Prometheus, and to whom.

use clap::ValueEnum;

use super::{Cluster, NodeId, Provider};

/// Who may read the nodes' metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Metrics {
    /// Nobody: nodes have no port for it
    #[default]
    None,
    /// Whoever is on the node's host
    Loopback,
    /// Whoever can reach the address at which the node listens for clients
    All,
}

impl Cluster {
    /// Where a node is to listen for scrapers of metrics, given where it listens for clients. `None`:
    /// nowhere.
    #[must_use]
    pub fn metrics_listen(&self, id: NodeId, listen_clients: &str) -> Option<String> {
        // On this machine each node has a port of its own: checked with the file.
        let port = match self.provider {
            Provider::Local => u64::from(self.ports.metrics) + id,
            _ => u64::from(self.ports.metrics),
        };
        let clients_at = listen_clients.rsplit_once(':').map(|(host, _)| host);
        let host = match self.metrics {
            Metrics::None => return None,
            Metrics::Loopback => "127.0.0.1",
            Metrics::All => clients_at.unwrap_or("127.0.0.1"),
        };
        Some(format!("{host}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn listens(text: &str, listen_clients: &str) -> Option<String> {
        let file = format!("name: demo\n{text}");
        let cluster = parse(&file, "cluster.yaml", "/".into(), &|_| None).unwrap();
        cluster.metrics_listen(2, listen_clients)
    }

    // Nowhere unless asked for; then on the host alone, or wherever clients are listened to. On one machine
    // the port is the base plus the node's id.
    #[test]
    fn a_node_listens_where_it_is_told() {
        assert_eq!(listens("", "127.0.0.1:7502"), None);
        assert_eq!(listens("metrics: none", "127.0.0.1:7502"), None);
        let address = |text: &str, clients| listens(text, clients).unwrap();
        let local = address("metrics: loopback", "127.0.0.1:7502");
        assert_eq!(local, "127.0.0.1:7602");
        let ssh = "provider: ssh\nnodes: [{id: 1, host: a}, {id: 2, host: b}, {id: 3, host: c}]";
        let loopback = format!("{ssh}\nmetrics: loopback");
        assert_eq!(address(&loopback, "[::]:7500"), "127.0.0.1:7600");
        let all = format!("{ssh}\nmetrics: all\nports: {{metrics: 9600}}");
        assert_eq!(address(&all, "[::]:7500"), "[::]:9600");
        assert_eq!(address(&all, "10.0.0.2:7500"), "10.0.0.2:9600");
    }

    // A port that two things would listen on is a problem, where there are metrics.
    #[test]
    fn ports_do_not_meet() {
        let problems = |text: &str| {
            let file = format!("name: demo\nnodes: 3\nports: {{metrics: 7500}}\n{text}");
            parse(&file, "cluster.yaml", "/".into(), &|_| None).map_err(|all| all.to_string())
        };
        assert!(problems("metrics: none").is_ok());
        let local = problems("metrics: loopback").unwrap_err();
        assert!(
            local.contains("the metrics port of node 1 is 7501"),
            "{local}"
        );
        let docker = problems("metrics: all\nprovider: docker").unwrap_err();
        assert!(docker.contains("ports.metrics is 7500"), "{docker}");
    }
}
