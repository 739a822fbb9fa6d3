use super::*;

fn plan(entries: &[(&str, &str, &str, &str)]) -> String {
    let changes: Vec<_> = entries
        .iter()
        .map(|(kind, name, key, actions)| {
            format!(
                r#"{{"address":"{kind}.{name}[\"{key}\"]","type":"{kind}","name":"{name}","index":"{key}","change":{{"actions":[{actions}]}}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"format_version":"1.2","resource_changes":[{}]}}"#,
        changes.join(",")
    )
}

// What stays as it is, is no change; the rest reads as a list of things to do.
#[test]
fn a_plan_reads_as_words() {
    let json = plan(&[
        ("google_compute_instance", "node", "n1", r#""update""#),
        ("google_compute_disk", "data", "n1", r#""no-op""#),
        (
            "google_compute_subnetwork",
            "region",
            "us-east1",
            r#""create""#,
        ),
        (
            "google_compute_instance",
            "node",
            "n2",
            r#""delete","create""#,
        ),
    ]);
    let words: Vec<_> = read(&json).unwrap().iter().map(Change::describe).collect();
    assert_eq!(
        words,
        [
            "create subnet us-east1",
            "change machine n1",
            "REPLACE machine n2"
        ]
    );
}

// A rule that gets other ranges needs nobody's word; one that goes does, and so does a machine.
#[test]
fn a_rule_made_anew_is_no_deletion() {
    let anew = r#""delete","create""#;
    let is_destructive = |kind: &str, actions: &str| {
        let json = plan(&[(kind, "a", "n1", actions)]);
        read(&json).unwrap()[0].is_destructive()
    };
    assert!(!is_destructive("google_compute_firewall", anew));
    assert!(is_destructive("google_compute_firewall", r#""delete""#));
    assert!(is_destructive("google_compute_instance", anew));
    assert!(!is_destructive("google_compute_instance", r#""update""#));
}

// What the module keeps for itself, such as the ranges of a rule, is no resource of the cluster's.
#[test]
fn what_is_not_at_google_is_no_change() {
    let json = plan(&[("terraform_data", "disk", "n1", r#""create""#)]);
    assert_eq!(read(&json).unwrap(), []);
    let json = plan(&[("terraform_data", "disk", "n1", r#""no-op""#)]);
    assert!(!has_made(&json).unwrap());
}

// A machine that is yet to be made, or that deleted itself, is not there; one that goes still is.
#[test]
fn machines_that_are_there_are_known() {
    let json = plan(&[
        ("google_compute_instance", "node", "n1", r#""no-op""#),
        ("google_compute_instance", "node", "n2", r#""create""#),
        ("google_compute_instance", "node", "n3", r#""delete""#),
        (
            "google_compute_instance",
            "node",
            "n4",
            r#""delete","create""#,
        ),
        ("google_compute_disk", "data", "n5", r#""no-op""#),
    ]);
    let there: Vec<_> = standing(&json).unwrap().into_iter().collect();
    assert_eq!(there, ["n1", "n3", "n4"]);
}

// A machine may go, a data disk may not: not replaced in either order, not deleted.
#[test]
fn a_lost_data_disk_is_refused() {
    for actions in [
        r#""delete""#,
        r#""delete","create""#,
        r#""create","delete""#,
        r#""vanish","delete""#,
    ] {
        let json = plan(&[
            ("google_compute_disk", "data", "n4", actions),
            ("google_compute_instance", "node", "n4", r#""delete""#),
        ]);
        let refusal = refuse_data_loss(&read(&json).unwrap(), &BTreeSet::new(), None).unwrap_err();
        assert!(refusal.to_string().contains("data disk n4"), "{refusal}");
        assert!(
            refusal.to_string().contains("--allow-data-loss"),
            "{refusal}"
        );
        assert_eq!(refusal.exit_code(), 2);
    }
    let json = plan(&[
        ("google_compute_disk", "data", "n4", r#""update""#),
        (
            "google_compute_instance",
            "node",
            "n4",
            r#""delete","create""#,
        ),
    ]);
    assert!(refuse_data_loss(&read(&json).unwrap(), &BTreeSet::new(), None).is_ok());
}

// Another type stops a machine that runs; the rest is none of that.
#[test]
fn machines_that_would_be_stopped_are_known() {
    let entry = |key: &str, actions: &str, before: &str, after: &str| {
        format!(
            r#"{{"address":"a","type":"google_compute_instance","index":"{key}",
            "change":{{"actions":[{actions}],"before":{before},"after":{after}}}}}"#
        )
    };
    let running = r#"{"machine_type":"e2-small","current_status":"RUNNING"}"#;
    let off = r#"{"machine_type":"e2-small","current_status":"TERMINATED"}"#;
    let other = r#"{"machine_type":"e2-medium"}"#;
    let changes = [
        entry("n1", r#""update""#, running, other),
        entry("n2", r#""update""#, running, running),
        entry("n3", r#""update""#, off, other),
        entry("n4", r#""delete","create""#, running, other),
        entry("n5", r#""create""#, "null", other),
    ]
    .join(",");
    let json = format!(r#"{{"format_version":"1.2","resource_changes":[{changes}]}}"#);
    assert_eq!(retyped(&json).unwrap(), BTreeSet::from(["n1".to_owned()]));
    assert_eq!(started(&json).unwrap(), BTreeSet::from(["n3".to_owned()]));
}

// A form that is not known is refused, since the check above could miss something in it.
#[test]
fn another_form_is_refused() {
    assert!(read(r#"{"format_version":"2.0","resource_changes":[]}"#).is_err());
    assert!(read("no plan").is_err());
}

// A disk that somebody has deleted comes back with nothing on it: for a member whose machine runs on,
// or a node that was seen with a log, that is a loss; for a node that never had a disk it is none.
#[test]
fn a_blank_disk_is_a_loss() {
    let names = |names: &[&str]| -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    let disk = |name| ("google_compute_disk", "data", name, r#""create""#);
    let json = plan(&[disk("n1"), disk("n2"), disk("n3"), disk("n4")]);
    let changes = read(&json).unwrap();
    let standing = names(&["n1", "n4"]);
    let members = names(&["n1", "n2", "n3"]);
    let blank = blank_disks(&changes, &standing, &members, &names(&["n2"]));
    assert_eq!(blank, names(&["n1", "n2"]));
    let refused = refuse_data_loss(&changes, &blank, None);
    let text = refused.unwrap_err().to_string();
    for words in [
        "create data disk n1, with nothing on it",
        "data disk n2",
        "--allow-data-loss",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(!text.contains("n3") && !text.contains("n4"), "{text}");
    assert!(refuse_data_loss(&changes, &BTreeSet::new(), None).is_ok());
    // Nobody is led to give up data that may be there.
    let unseen = refuse_data_loss(&changes, &blank, Some("Google answers 403")).unwrap_err();
    assert_eq!(unseen.exit_code(), 10);
    let text = unseen.to_string();
    assert!(
        text.contains("could not be seen: Google answers 403"),
        "{text}"
    );
    assert!(!text.contains("--allow-data-loss"), "{text}");
    assert!(refuse_data_loss(&changes, &BTreeSet::new(), Some("x")).is_ok());
}

// What is taken in is no creation, also where something of it is made right at the same time.
#[test]
fn what_is_taken_in_is_told() {
    let entry = |name: &str, actions: &str, importing: &str| {
        format!(
            r#"{{"address":"google_compute_instance.node[\"{name}\"]","type":"google_compute_instance","index":"{name}",
            "mode":"managed","change":{{"actions":[{actions}],"importing":{importing},"after":{{"name":"raft-demo-{name}","zone":"z"}}}}}}"#
        )
    };
    let id = r#"{"id":"x"}"#;
    let entries = [
        entry("n1", r#""no-op""#, id),
        entry("n2", r#""update""#, id),
        entry("n3", r#""create""#, "null"),
        entry("n4", r#""no-op""#, "null"),
    ];
    let json = format!(
        r#"{{"format_version":"1.2","resource_changes":[{}]}}"#,
        entries.join(",")
    );
    let words: Vec<_> = read(&json).unwrap().iter().map(Change::describe).collect();
    assert_eq!(
        words,
        [
            "take in machine n1",
            "take in machine n2",
            "create machine n3"
        ]
    );
    assert_eq!(
        standing(&json).unwrap(),
        ["n1", "n2", "n4"].map(String::from).into()
    );
    let made = made(&json, "p").unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].2, "projects/p/zones/z/instances/raft-demo-n3");
}

// Who is to be started is told by what Google says of the machines, whatever the plan does to them; one that
// is made runs of itself.
#[test]
fn machines_that_are_off_are_to_be_started() {
    let machine = |name: &str, actions: &str, before: &str| {
        format!(
            r#"{{"address":"a","type":"google_compute_instance","index":"{name}","change":{{"actions":[{actions}],
            "before":{before}}}}}"#
        )
    };
    let status = |desired: &str, current: &str| {
        format!(r#"{{"desired_status":{desired},"current_status":"{current}"}}"#)
    };
    let entries = [
        machine("n1", r#""no-op""#, &status("null", "RUNNING")),
        machine("n2", r#""no-op""#, &status("null", "TERMINATED")),
        machine("n3", r#""no-op""#, &status(r#""RUNNING""#, "RUNNING")),
        machine(
            "n4",
            r#""update""#,
            &status(r#""TERMINATED""#, "TERMINATED"),
        ),
        machine("n5", r#""create""#, "null"),
    ];
    let json = format!(
        r#"{{"format_version":"1.2","resource_changes":[{}]}}"#,
        entries.join(",")
    );
    assert_eq!(
        to_start(&json).unwrap(),
        ["n2", "n3", "n4"].map(String::from).into()
    );
}

// The rules that are touched are those to look at afterwards.
#[test]
fn rules_that_are_touched_are_known() {
    let rule = |name: &str, actions: &str, ranges: &str| {
        format!(
            r#"{{"address":"a","type":"google_compute_firewall","change":{{"actions":[{actions}],
            "after":{{"name":"{name}","source_ranges":{ranges}}}}}}}"#
        )
    };
    let entries = [
        rule("ssh", r#""update""#, r#"["198.51.100.7/32"]"#),
        rule("clients", r#""delete","create""#, r#"["10.0.0.0/8"]"#),
        rule("peers", r#""update""#, "null"),
        rule("new", r#""create""#, r#"["10.0.0.0/8"]"#),
        rule("same", r#""no-op""#, r#"["10.0.0.0/8"]"#),
    ];
    let json = format!(
        r#"{{"format_version":"1.2","resource_changes":[{}]}}"#,
        entries.join(",")
    );
    let names: Vec<_> = narrowed(&json).unwrap().into_keys().collect();
    assert_eq!(names, ["clients", "ssh"]);
}

// A machine that somebody deleted and made anew is another one, and is taken in like one that no state knows;
// one of which only an address has changed is the same.
#[test]
fn a_machine_made_by_hand_is_taken_in() {
    let with = |drift: &str| {
        plan(&[
            ("google_compute_instance", "node", "n1", r#""no-op""#),
            ("google_compute_instance", "node", "n2", r#""update""#),
        ])
        .replacen('{', &format!(r#"{{"resource_drift":[{drift}],"#), 1)
    };
    let drift = |name: &str, before: &str, after: &str| {
        format!(
            r#"{{"address":"google_compute_instance.node[\"{name}\"]","type":"google_compute_instance","index":"{name}",
                "change":{{"actions":["update"],"before":{before},"after":{after}}}}}"#
        )
    };
    let [one, other] = [r#"{"instance_id":"1"}"#, r#"{"instance_id":"2"}"#];
    let words = |json: &str| -> Vec<String> {
        let changes = read(json).unwrap();
        changes.iter().map(Change::describe).collect()
    };
    let moved = with(&drift("n1", one, one));
    assert_eq!(words(&moved), ["change machine n2"]);
    assert!(!has_made_by_hand(&moved).unwrap());
    let anew = with(&[drift("n1", one, other), drift("n2", one, other)].join(","));
    assert_eq!(words(&anew), ["take in machine n1", "take in machine n2"]);
    assert!(has_made_by_hand(&anew).unwrap());
    // A deleted one is made again, and is no other.
    let gone = with(&drift("n1", one, "null"));
    assert!(!has_made_by_hand(&gone).unwrap());
}
