//! What is to be: the binary, the nodes as cluster.yaml wants them, and the steps that lead there.

use super::{Context, facts};
use crate::error::{Error, Result};
use crate::local::binary::{self, Binary, Origin};
use crate::plan::arguments;
use crate::plan::{self, Facts, Release, Step, Target};
use crate::scripts::layout::release_name;
use crate::terminal::progress::Progress;

/// The binary of a cluster; says so when it has to be built.
///
/// # Errors
/// It is not there and can't be built.
pub async fn obtain(context: &Context, progress: &Progress) -> Result<Binary> {
    let origin = binary::locate(&context.cluster)?;
    let progress = progress.clone();
    // A build takes minutes, in which the lock on hosts has to be renewed.
    let obtaining =
        tokio::task::spawn_blocking(move || binary::obtain(&origin, |text| progress.note(text)));
    match obtaining.await {
        Ok(binary) => binary,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What the nodes of a cluster are to be.
///
/// # Errors
/// The binary can't be read.
pub fn target(context: &Context, origin: &Origin, facts: &Facts) -> Result<Target> {
    let (binary, build) = match origin {
        Origin::Present(_) => (binary::obtain(origin, |_| ())?, None),
        Origin::Build { path, .. } => {
            let binary = Binary {
                path: path.clone(),
                sha256: String::new(),
            };
            (binary, origin.command())
        }
    };
    Ok(target_of(context, &binary, build, facts))
}

fn target_of(context: &Context, binary: &Binary, build: Option<String>, facts: &Facts) -> Target {
    let (cluster_id, founders) = (context.identity.known(), context.identity.founders());
    let node = |id| {
        let what = (binary.path.as_path(), binary.sha256.as_str());
        let origin = (cluster_id, &founders);
        arguments::start_node(&context.cluster, &context.inventory, origin, id, what)
    };
    let ships = context.has_remote_hosts();
    let members = context.inventory.members.iter();
    let addresses = members.clone().map(|member| {
        let both = (member.peer_address.clone(), member.client_address.clone());
        (member.id, both)
    });
    let guessed = members.filter(|member| !member.is_address_known);
    Target {
        nodes: context.cluster.ids().into_iter().map(node).collect(),
        addresses: addresses.collect(),
        founders: founders.clone(),
        format_max: context.cluster.format_max,
        guessed: guessed.map(|member| member.id).collect(),
        reads_format: build.is_none().then(|| binary.reads_format()).flatten(),
        build,
        release: ships.then(|| release(binary)),
        certificates: context.certificates(facts),
    }
}

/// The binary as it is to lie on hosts.
fn release(binary: &Binary) -> Release {
    let is_built = !binary.sha256.is_empty();
    Release {
        name: is_built.then(|| release_name(&binary.sha256).to_owned()),
        // Only told; a file that went away fails when it is sent.
        bytes: std::fs::metadata(&binary.path).map_or(0, |file| file.len()),
    }
}

/// The steps from what is to what should be, where the binary may be yet to be built.
///
/// # Errors
/// Something stands in the way.
pub fn steps(context: &Context, origin: &Origin, facts: &Facts) -> Result<Vec<Step>> {
    let target = target(context, origin, facts)?;
    context.refuse_unsigned(facts, &target.certificates)?;
    plan::plan(&target, facts).map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

/// The steps from what is to what should be, with a binary that is there.
///
/// # Errors
/// Something stands in the way.
pub fn steps_with(context: &Context, binary: &Binary, facts: &Facts) -> Result<Vec<Step>> {
    let target = target_of(context, binary, None, facts);
    context.refuse_unsigned(facts, &target.certificates)?;
    plan::plan(&target, facts).map_err(|obstacles| Error::Usage(obstacles.to_string()))
}

/// What the hosts and nodes of a cluster are, before nodes are started one by one. Hosts that do not
/// answer are left behind.
///
/// # Errors
/// cluster.yaml has changed since the nodes were started.
pub async fn unchanged_facts(context: &Context, binary: &Binary) -> Result<Facts> {
    let mut facts = Facts::default();
    for (id, outcome) in context.host_facts().await {
        match outcome {
            Ok(host) => drop(facts.hosts.insert(id, host)),
            Err(error) => drop(facts.left_behind.insert(id, error)),
        }
    }
    facts::recall(context, &mut facts)?;
    context.refuse_stranger(&facts)?;
    let target = target_of(context, binary, None, &facts);
    plan::refuse_changed(&target, &facts).map_err(|found| Error::Usage(found.to_string()))?;
    Ok(facts)
}
