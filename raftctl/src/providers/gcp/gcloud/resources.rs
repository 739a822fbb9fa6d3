//! What stands at Google under a cluster's names, of every kind.

use std::collections::BTreeMap;

use super::command::Call;
use super::{Gcloud, MachineState, ZoneAndName, answers};
use crate::error::Result;
use crate::providers::gcp::resources::{self, GoogleResource, Kind, Location};

impl Gcloud {
    /// Everything of a kind that bears the cluster's name.
    ///
    /// # Errors
    /// Google refuses, or does not answer in time.
    pub async fn resources(&self, kind: Kind, cluster: &str) -> Result<Vec<GoogleResource>> {
        let json = self.listed(kind, cluster).await?;
        resources::read(kind, &json, cluster)
    }

    /// Every machine that bears the cluster's name, and how those of exactly this cluster are: one list tells
    /// both.
    ///
    /// # Errors
    /// As above.
    pub async fn machines_and_states(
        &self,
        cluster: &str,
    ) -> Result<(Vec<GoogleResource>, BTreeMap<ZoneAndName, MachineState>)> {
        let json = self.listed(Kind::Machine, cluster).await?;
        let resources = resources::read(Kind::Machine, &json, cluster)?;
        Ok((resources, answers::machines(&json, cluster)?))
    }

    async fn listed(&self, kind: Kind, cluster: &str) -> Result<String> {
        // gcloud's own grammar takes no brackets here; what it finds too much is left out below.
        let filter = format!("--filter=name~^raft-{cluster}");
        let mut arguments = kind.gcloud().to_vec();
        arguments.extend(["list", &filter, "--format=json"]);
        let purpose = format!("look for each {} of the cluster", kind.noun());
        let gcloud = self.where_is(kind);
        gcloud.run(&Call::question(&purpose, &arguments)).await
    }

    /// Deletes resources of a kind and place.
    ///
    /// # Errors
    /// As above; something else uses it.
    pub async fn delete(&self, kind: Kind, place: &Location, names: &[String]) -> Result<()> {
        let place = place.option();
        let mut arguments = kind.gcloud().to_vec();
        arguments.push("delete");
        arguments.extend(names.iter().map(String::as_str));
        arguments.extend(place.as_deref());
        let purpose = format!("delete {} {}", kind.noun(), names.join(", "));
        let gcloud = self.where_is(kind);
        gcloud
            .run(&Call::change(&purpose, &arguments))
            .await
            .map(drop)
    }

    /// gcloud in the project where a kind is: firewall rules belong to the network's.
    fn where_is(&self, kind: Kind) -> Gcloud {
        match (kind, &self.network_project) {
            (Kind::Rule, Some(project)) => Gcloud {
                project: project.clone(),
                ..self.clone()
            },
            _ => self.clone(),
        }
    }
}
