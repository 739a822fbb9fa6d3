//! The verbs that make, change or delete hosts. What there is to do is the provider's matter: the one match
//! of the provider among the verbs is here, a row for each.

use std::time::Duration;

use super::restore::{self, Source};
use super::{docker, gcp};
use crate::cluster::{Cluster, Provider};
use crate::error::{Error, Result};
use crate::ops::Context;
use crate::terminal::options::Options;

/// What a verb wants of the hosts themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// They are to be there as they are.
    Hosts,
    /// Tell what would be made, and what would be done on it.
    Plan,
    /// Make what is missing.
    Up,
    /// Delete what was made.
    Down {
        /// Also what other clusters could use.
        purge: bool,
        /// But not the data disks.
        keep_data: bool,
    },
    /// Switch machines off or on, or let them live longer.
    Machines {
        /// What asks for that.
        flag: &'static str,
    },
}

/// Does the provider's part of a verb. The cluster comes back where there is something left to do with its
/// nodes.
///
/// # Errors
/// The provider has nothing of that kind; else what it fails with.
pub async fn provision(
    cluster: Cluster,
    options: &Options,
    wanted: Wanted,
) -> Result<Option<Cluster>> {
    match cluster.provider {
        Provider::Local | Provider::Ssh => {
            has_no_machines(&cluster, wanted).map(|()| Some(cluster))
        }
        Provider::Docker => with_containers(cluster, options, wanted).await,
        Provider::Gcp => with_machines(cluster, options, wanted).await,
    }
}

/// Makes the hosts that are missing, and the cluster of a backup on them.
///
/// # Errors
/// The provider refuses; else as of [`restore::run`].
pub async fn restore(cluster: Cluster, options: &Options, source: &Source) -> Result<()> {
    match cluster.provider {
        Provider::Local | Provider::Ssh => {}
        Provider::Docker => docker::make(&cluster).await?,
        Provider::Gcp => {
            let nodes = async |context: &Context| restore::run(context, options, source).await;
            // Large: on the heap.
            return Box::pin(gcp::up_with(cluster, options, false, nodes)).await;
        }
    }
    let context = Context::look(cluster, true).await?;
    Box::pin(restore::run(&context, options, source)).await
}

async fn with_containers(
    cluster: Cluster,
    options: &Options,
    wanted: Wanted,
) -> Result<Option<Cluster>> {
    has_no_machines(&cluster, wanted)?;
    match wanted {
        Wanted::Plan => docker::plan(cluster, options).await?,
        Wanted::Up => {
            docker::make(&cluster).await?;
            return Ok(Some(cluster));
        }
        Wanted::Down { purge, .. } => docker::down(&cluster, options, purge).await?,
        Wanted::Hosts | Wanted::Machines { .. } => return Ok(Some(cluster)),
    }
    Ok(None)
}

async fn with_machines(
    cluster: Cluster,
    options: &Options,
    wanted: Wanted,
) -> Result<Option<Cluster>> {
    let allow_data_loss = options.allow_data_loss;
    match wanted {
        Wanted::Plan => gcp::plan(cluster, options, allow_data_loss).await?,
        // Large: on the heap.
        Wanted::Up => Box::pin(gcp::up(cluster, options, allow_data_loss)).await?,
        Wanted::Down { keep_data, .. } => Box::pin(gcp::down(cluster, options, keep_data)).await?,
        Wanted::Hosts | Wanted::Machines { .. } => return Ok(Some(cluster)),
    }
    Ok(None)
}

/// Refuses what only makes sense where raftctl makes the machines.
fn has_no_machines(cluster: &Cluster, wanted: Wanted) -> Result<()> {
    let what = match wanted {
        Wanted::Machines { flag } => flag,
        Wanted::Down {
            keep_data: true, ..
        } => "--keep-data",
        _ => return Ok(()),
    };
    Err(Error::Usage(format!(
        "{what} is for provider gcp, and cluster {} has provider {}",
        cluster.name,
        cluster.provider.name()
    )))
}

/// Switches the machines of nodes off, as a failure of the machine would.
///
/// # Errors
/// The selector names none; the provider refuses.
pub async fn stop_machines(context: &Context, options: &Options, selector: &str) -> Result<()> {
    gcp::stop_machines(context, options, selector).await
}

/// Takes the machines of nodes off and on again, one after the other.
///
/// # Errors
/// The selector names none; the provider refuses; a node does not come back.
pub async fn restart_machines(context: &Context, options: &Options, selector: &str) -> Result<()> {
    gcp::restart_machines(context, options, selector).await
}

/// Lets machines live longer.
///
/// # Errors
/// The provider refuses.
pub async fn extend(
    context: &Context,
    options: &Options,
    lifetime: Option<Duration>,
) -> Result<()> {
    gcp::extend(context, options, lifetime).await
}
