//! Which advice is given where, and which test follows it: the state is made, the words are read, and the
//! command that they name is run as it stands there.
//!
//! Whoever writes another "`raftctl ...`" into the sources adds a row. What the rooms of Google Cloud say is
//! tried by `tests/cloud`, each story for itself; what is told of ways to a host names commands of ssh, and
//! stands in `tests/remote/advice.rs`.

use std::collections::BTreeSet;
use std::path::Path;

use harness::sources::source_files;

/// A file of `src/`, the commands that it advises, and the tests that run them in the state that is told.
const FOLLOWED: &[(&str, &[&str], &[&str])] = &[
    (
        "cluster/parse.rs",
        &["init"],
        &["local::cli::a_missing_file_says_what_to_do"],
    ),
    (
        "client/security.rs",
        &["up", "certs renew"],
        &["local::tls::ended_certificates_are_renewed_as_it_is_told"],
    ),
    (
        "local/authority.rs",
        &["certs rotate", "certs rotate --finish"],
        &["local::tls::certificates_change_under_load"],
    ),
    (
        "verbs/certs.rs",
        &["up"],
        &[
            "local::tls::a_running_cluster_goes_over_and_back",
            "local::tls::an_authority_outside_signs",
        ],
    ),
    (
        "cluster/tls.rs",
        &["up"],
        &["remote::tls::hosts_go_over_to_tls"],
    ),
    (
        "ops/certificates.rs",
        &["up"],
        &["remote::tls::hosts_go_over_to_tls"],
    ),
    (
        "ops/certificates.rs",
        &["certs use"],
        &["local::tls::an_issued_certificate_is_judged_before_it_is_used"],
    ),
    (
        "scripts/certificates.rs",
        &["up"],
        &["remote::systemd::a_node_without_its_binary_says_so"],
    ),
    (
        "verbs/up.rs",
        &["certs rotate --finish"],
        &["local::tls::certificates_change_under_load"],
    ),
    (
        "verbs/certs.rs",
        &["certs issue", "certs rotate --finish"],
        &[
            "local::tls::certificates_change_under_load",
            "local::tls::certificates_are_made_for_clients",
        ],
    ),
    (
        "verbs/certs.rs",
        &["certs renew"],
        &["local::tls::ended_certificates_are_renewed_as_it_is_told"],
    ),
    (
        "error/mod.rs",
        &["{verb}"],
        &["local::nodes::an_interrupted_up_is_run_again"],
    ),
    (
        "error/transport.rs",
        &["doctor"],
        &["remote::partial::a_silent_host_is_not_waited_for"],
    ),
    (
        "ops/links.rs",
        &["up"],
        &["local::advice::faults_are_allowed_as_it_is_told"],
    ),
    (
        "ops/lock.rs",
        &["status", "up", "heal"],
        &["remote::partial::a_scenario_holds_the_lock"],
    ),
    (
        "ops/lock.rs",
        &["{verb}"],
        &[
            "remote::partial::every_verb_has_an_end",
            "remote::advice::a_lock_of_another_is_waited_for",
            "remote::advice::a_lock_that_is_left_over_ends",
        ],
    ),
    (
        "ops/nodes.rs",
        &["start {id}"],
        &["local::advice::a_stopped_node_is_started_as_it_is_told"],
    ),
    (
        "ops/rollback.rs",
        &["upgrade"],
        &["remote::advice::there_is_nothing_to_go_back_to"],
    ),
    (
        "ops/run.rs",
        &["up"],
        &["remote::partial::a_host_lost_while_all_are_stopped_is_left_behind"],
    ),
    (
        "ops/run.rs",
        &["remove {id} --purge"],
        &[
            "local::members::files_of_those_who_left_are_deleted_when_told",
            "remote::members::members_come_and_go_over_ssh",
        ],
    ),
    (
        "ops/wait.rs",
        &["up"],
        &["local::members::a_leader_that_the_file_does_not_name_is_told"],
    ),
    (
        "plan/facts.rs",
        &["up --allow-data-loss"],
        &[
            "local::nodes::a_lost_log_is_missed",
            "remote::docker::a_container_that_is_gone_took_its_log",
        ],
    ),
    (
        "plan/facts.rs",
        &["replace {id}"],
        &[
            "local::members::a_directory_that_is_gone_is_replaced",
            "remote::docker::a_lost_disk_is_replaced_once_members_have_changed",
        ],
    ),
    (
        "plan/facts.rs",
        &["down --purge"],
        &["remote::partial::no_second_cluster_begins_beside_a_silent_host"],
    ),
    (
        "plan/facts.rs",
        &["exec {id} -- ss -ltnp sport = :{port}"],
        &["remote::partial::a_taken_port_leaves_one_behind"],
    ),
    (
        "plan/mod.rs",
        &["up"],
        &["remote::partial::a_changed_file_is_for_all_nodes"],
    ),
    (
        "providers/docker/hosts.rs",
        &["up"],
        &[
            "remote::docker::a_stopped_container_is_started",
            "remote::docker::a_container_that_is_gone_took_its_log",
        ],
    ),
    (
        "providers/ssh/login_facts.rs",
        &["up", "doctor"],
        &[
            "remote::logins::rights_that_go_are_missed",
            "remote::partial::a_silent_host_is_not_waited_for",
        ],
    ),
    (
        "scenario/restore.rs",
        &["resume all", "start all", "heal"],
        &["remote::partial::faults_are_undone_where_hosts_answer"],
    ),
    (
        "scripts/start.sh",
        &["up"],
        &["remote::systemd::a_node_without_its_binary_says_so"],
    ),
    (
        "scripts/prelude.sh",
        &["plan"],
        &["remote::systemd::a_lost_log_is_missed_by_systemd"],
    ),
    (
        "scripts/unit.rs",
        &["up", "plan"],
        &[
            "remote::systemd::a_node_without_its_binary_says_so",
            "remote::systemd::a_lost_log_is_missed_by_systemd",
        ],
    ),
    (
        "verbs/doctor/hosts.rs",
        &["upgrade", "heal"],
        &[
            "remote::advice::an_interrupted_upgrade_goes_on",
            "remote::advice::a_packet_filter_is_healed",
        ],
    ),
    (
        "verbs/doctor/hosts.rs",
        &["upgrade --rollback"],
        &["remote::ssh::a_rollback_ends_at_one_release"],
    ),
    (
        "verbs/doctor/mod.rs",
        &[
            "up",
            "start {id}",
            "start all",
            "resume {id}",
            "resume all",
            "heal",
            "status",
            "logs {id}",
            "doctor --fix",
            "plan",
        ],
        &[
            "local::advice::the_advice_on_nodes_leads_on",
            "local::advice::the_advice_on_a_new_cluster_leads_on",
            "local::advice::a_cluster_in_pieces_is_healed_as_it_is_told",
            "local::advice::a_crash_is_read_of_and_forgotten",
            "local::nodes::a_lost_log_is_missed",
        ],
    ),
    (
        "verbs/check.rs",
        &["check"],
        &["cloud::check::names_that_google_does_not_know_are_found"],
    ),
    (
        "verbs/docker.rs",
        &["down"],
        &["remote::docker::what_others_made_stays"],
    ),
    (
        "verbs/down.rs",
        &["up", "down --purge"],
        &["local::nodes::up_converges_and_down_leaves_nothing"],
    ),
    (
        "verbs/hosts.rs",
        &["exec", "exec {id} -- COMMAND"],
        &[
            "local::cli::ssh_is_not_for_local",
            "local::cli::a_command_runs_once_a_machine",
        ],
    ),
    (
        "verbs/init.rs",
        &["check", "plan", "up"],
        &[
            "local::cli::init_writes_a_file_once",
            "local::nodes::up_converges_and_down_leaves_nothing",
        ],
    ),
    (
        "verbs/keys.rs",
        &["get {key}"],
        &["local::keys::keys_from_the_command_line"],
    ),
    (
        "verbs/links.rs",
        &["heal"],
        &[
            "local::nodes::a_partition_cuts_and_heals",
            "local::nodes::a_partition_is_whole_or_not_at_all",
        ],
    ),
    (
        "ops/members.rs",
        &["up"],
        &["local::members::an_interrupted_change_goes_on"],
    ),
    (
        "plan/change.rs",
        &[
            "up",
            "add {id}",
            "remove {owner}",
            "start {their}",
            "replace {first}",
        ],
        &["local::members::wrong_wishes_are_refused"],
    ),
    (
        "plan/change.rs",
        &["remove {first}"],
        &[
            "remote::partial::a_changed_file_is_for_all_nodes",
            "remote::members::members_come_and_go_over_ssh",
        ],
    ),
    (
        "verbs/change.rs",
        &["up", "down"],
        &["local::members::a_file_that_can_t_be_edited_is_for_a_person"],
    ),
    (
        "verbs/membership.rs",
        &["doctor"],
        &["local::members::too_few_that_may_fail_are_missed"],
    ),
    (
        "verbs/membership.rs",
        &["up"],
        &["local::members::a_cluster_grows_and_shrinks_by_its_file"],
    ),
    (
        "verbs/nodes.rs",
        &["plan"],
        &["local::nodes::a_lost_log_is_missed"],
    ),
    (
        "verbs/status.rs",
        &["heal"],
        &[
            "local::advice::a_cluster_in_pieces_is_healed_as_it_is_told",
            "remote::advice::a_packet_filter_is_healed",
        ],
    ),
    (
        "verbs/upgrade.rs",
        &["upgrade --rollback", "upgrade", "start {id}"],
        &[
            "remote::ssh::an_upgrade_goes_unnoticed",
            "remote::ssh::a_rollback_ends_at_one_release",
            "remote::ssh::an_upgrade_is_for_stopped_nodes_too",
        ],
    ),
    (
        "verbs/restore.rs",
        &["stop all", "down --purge"],
        &["local::backups::a_backup_comes_back"],
    ),
    (
        "bench/moments.rs",
        &["bench plot --help"],
        &["local::bench::figures_become_a_picture"],
    ),
    (
        "verbs/upgrade.rs",
        &["up", "doctor"],
        &["local::advice::an_upgrade_waits_for_a_leader_as_it_is_told"],
    ),
];

/// The same for advice that no test runs in its state, with the reason.
const READ_ONLY: &[(&str, &[&str], &str)] = &[
    (
        "bench/phases.rs",
        &["status"],
        "a look at a cluster that does not answer, after which there is nothing to mend but that",
    ),
    (
        "local/folder_lock.rs",
        &["{verb}"],
        "names what the holder runs",
    ),
    (
        "ops/nodes.rs",
        &["kill {id}"],
        "a node that is asked to stop ends within its bounds: no state is known in which it does not",
    ),
    (
        "ops/wait.rs",
        &["status", "doctor"],
        "looks: what is amiss is told by them, in words that have rows of their own",
    ),
    (
        "plan/facts.rs",
        &["exec {id} -- df -h"],
        "a look at the disk; the words are those of plan::tests::obstacles_stop_everything",
    ),
    (
        "providers/docker/mod.rs",
        &["down"],
        "deletes the cluster; what it is advised against is remote::docker::nobody_leaves_with_the_list",
    ),
    (
        "scenario/chaos/mod.rs",
        &["up"],
        "the same as in ops/links.rs, before anything is played",
    ),
    (
        "scenario/restore.rs",
        &["list scenario/", "list chaos/"],
        "a look at keys that are left, where the cluster had no leader any more",
    ),
    (
        "ops/members.rs",
        &["status"],
        "looks: nobody leads who could say whether a node has left",
    ),
    (
        "verbs/change.rs",
        &["status", "doctor"],
        "looks: without a leader no member can change, and they tell why there is none",
    ),
    (
        "verbs/doctor/mod.rs",
        &["restart {id}", "transfer", "start"],
        "for a process that hangs, for a leader whose disk is full (node/tests/tools/full_disks.rs), and for a node \
         whose files were given up",
    ),
    (
        "bench/moments.rs",
        &["status"],
        "a look at a cluster that has found no leader",
    ),
    ("verbs/nodes.rs", &["exec {id} -- df -h", "status"], "looks"),
    (
        "verbs/timeline.rs",
        &["logs --into FOLDER", "timeline"],
        "looks, and the fetching of what is looked at",
    ),
    (
        "verbs/top/mod.rs",
        &["status", "top"],
        "a look, where there is no terminal for the other one",
    ),
    (
        "verbs/top/act.rs",
        &["start {id}"],
        "as doctor says it of a node that does not run",
    ),
    (
        "verbs/upgrade.rs",
        &["resume {id}", "status"],
        "as doctor says it of a paused node; a look",
    ),
];

/// Every command of raftctl that the sources name in backticks, with its file: not in comments and tests,
/// not the pages of `--help`, which show examples, and not the rooms of Google Cloud.
fn given(root: &Path) -> BTreeSet<(String, String)> {
    let mut given = BTreeSet::new();
    let crates = crate::CRATES
        .iter()
        .map(|room| (root.join(room).join("src"), format!("{room}/")));
    let sources = crates.chain([(root.join("src"), String::new())]);
    let files = sources.flat_map(|(source, room)| {
        let paths = source_files(&source, &["rs", "sh"]);
        paths.into_iter().map(move |path| {
            let inner = path.strip_prefix(&source).unwrap().to_str().unwrap();
            (format!("{room}{inner}"), path)
        })
    });
    for (inner, path) in files {
        let inner = inner.as_str();
        if inner.contains("gcp") || inner.starts_with("cli/") || inner.ends_with("/tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().map(str::trim_start);
        let lines = lines.filter(|line| !line.starts_with("//") && !line.starts_with('#'));
        // A line that a backslash ends goes on without the next one's indentation.
        let code = lines.collect::<Vec<_>>().join("\n");
        let code = code.replace("\\\n", "").replace("\\`", "`");
        for quoted in code.split("`raftctl ").skip(1) {
            let command = quoted.split('`').next().unwrap();
            given.insert((inner.to_owned(), command.to_owned()));
        }
    }
    given
}

// Whoever advises something says which test follows the advice, and that test is there.
#[test]
fn every_advice_is_followed_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let row = |(file, commands): (&&str, &&[&str])| {
        let commands = commands.iter().map(|command| (*command).to_owned());
        let file = (*file).to_owned();
        commands
            .map(|command| (file.clone(), command))
            .collect::<Vec<_>>()
    };
    let followed = FOLLOWED.iter().map(|(file, commands, _)| (file, commands));
    let read_only = READ_ONLY.iter().map(|(file, commands, _)| (file, commands));
    let told: BTreeSet<(String, String)> = followed.chain(read_only).flat_map(row).collect();
    let given = given(root);
    let missing: Vec<_> = given.difference(&told).collect();
    assert!(
        missing.is_empty(),
        "no row in tests/support/advice.rs: {missing:#?}"
    );
    let gone: Vec<_> = told.difference(&given).collect();
    assert!(
        gone.is_empty(),
        "strike from tests/support/advice.rs: {gone:#?}"
    );
    for (_, _, tests) in FOLLOWED {
        for test in *tests {
            let mut parts = test.split("::");
            let (program, module) = (parts.next().unwrap(), parts.next().unwrap());
            let file = root
                .join("tests")
                .join(program)
                .join(format!("{module}.rs"));
            let text = std::fs::read_to_string(&file).unwrap();
            let name = format!("fn {}(", parts.next().unwrap());
            assert!(text.contains(&name), "{test} is not there");
        }
    }
    assert!(READ_ONLY.iter().all(|(_, _, why)| !why.is_empty()));
}
