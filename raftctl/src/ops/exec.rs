//! Any command on the hosts of nodes.

use std::time::Duration;

use super::Context;
use crate::cluster::NodeId;
use crate::cluster::outcomes::Outcomes;
use crate::transport::{Output, Request};

impl Context {
    /// Runs a line of shell on the hosts of nodes. An exit status other than zero is no error
    /// here.
    pub async fn exec(&self, ids: &[NodeId], line: &str, deadline: Duration) -> Outcomes<Output> {
        self.on_hosts(ids, |host, here| {
            let line = line.to_owned();
            async move {
                let request = Request::new("run the command", &line, deadline);
                let output = host.transport.run(request).await?;
                Ok(here.iter().map(|id| (*id, output.clone())).collect())
            }
        })
        .await
    }
}
