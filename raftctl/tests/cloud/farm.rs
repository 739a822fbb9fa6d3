//! Google with hosts behind its instances: each instance of the stand-in is a test host.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use testprovider::hook::{Hook, Machine};

use crate::cloud::Cloud;
use crate::support::Ended;
use testhosts::TestHosts;

/// Longer than anything takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Gives a host another key. The server that has the old one is gone afterwards: it takes connections until then.
const NEW_HOST_KEY: &str = "
    rm /etc/ssh/testhost_key*; ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/testhost_key
    listens() { grep -c 'Server listening on' /proc/1/fd/2; }
    before=$(listens); kill -HUP 1
    for wait in $(seq 200); do [ \"$(listens)\" = \"$before\" ] || break; sleep 0.05; done
";

/// What Google's machines are here.
pub struct Farm {
    pub set: TestHosts,
    /// The host of each instance that exists.
    pub taken: BTreeMap<String, usize>,
    /// The host that an instance had last: what is on it goes with its disk.
    used: BTreeMap<String, usize>,
    /// The hosts of instances that are off.
    off: BTreeSet<usize>,
    /// What is known of each instance.
    machines: BTreeMap<String, Machine>,
    /// What was done to instances, each with the holder of the lock on another host at that time.
    pub done: Vec<(String, String)>,
    /// Holds a file for each instance that was made, with the address of its host.
    pub addresses: tempfile::TempDir,
}

impl Farm {
    fn act(&mut self, action: &str, machine: &Machine) -> Option<String> {
        let holder = self.lock_holder(&machine.name);
        self.done.push((action.to_owned(), holder));
        match action {
            "create" => {
                let is_free = |at: &usize| !self.taken.values().any(|taken| taken == at);
                let free = (0..self.set.hosts.len()).filter(is_free);
                let last = self.used.get(&machine.name);
                let is_others = |at: usize| self.used.values().any(|used| *used == at);
                let free = free.min_by_key(|at| (last != Some(at), is_others(*at)));
                let at = free.expect("the farm has a host for every instance");
                self.used.retain(|_, used| *used != at);
                self.used.insert(machine.name.clone(), at);
                self.taken.insert(machine.name.clone(), at);
                self.machines.insert(machine.name.clone(), machine.clone());
                // Another machine at the address of an older one has a key of its own.
                self.renew_host_key(at);
                self.furnish(at, machine, NEW_HOST_KEY);
                let address = self.set.hosts[at].address.to_string();
                std::fs::write(self.addresses.path().join(&machine.name), &address).unwrap();
                Some(address)
            }
            "start" => {
                let at = self.taken[&machine.name];
                self.set.revive(at);
                self.off.remove(&at);
                self.furnish(at, machine, "");
                Some(self.set.hosts[at].address.to_string())
            }
            "stop" => {
                let at = self.taken[&machine.name];
                self.set.hosts[at].die();
                self.off.insert(at);
                None
            }
            "remove" => {
                let at = self.taken.remove(&machine.name)?;
                self.set.hosts[at].die();
                None
            }
            other => panic!("no such action: {other}"),
        }
    }

    /// All machines were deleted with their disks: their hosts are there for others, with nothing on them.
    pub fn empty(&mut self) {
        assert!(self.taken.is_empty(), "machines are there");
        for at in 0..self.set.hosts.len() {
            self.set.hosts[at].die();
            self.set.revive(at);
            self.set.hosts[at].must_run("rm -rf /opt/raftkv");
        }
        self.used.clear();
        self.off.clear();
    }

    /// Where an instance is reached.
    pub fn address(&self, instance: &str) -> String {
        self.set.hosts[self.taken[instance]].address.to_string()
    }

    /// Who holds the lock of the cluster, by another host than that of `instance`; nobody: nothing.
    fn lock_holder(&self, instance: &str) -> String {
        let is_other = |(name, at): &(&String, &usize)| *name != instance && !self.off.contains(at);
        let others = self.taken.iter().filter(is_other);
        let show = "cat /opt/raftkv/demo/lock 2>/dev/null || :";
        // A majority has it; whoever is slow to answer need not.
        let mut held = others.map(|(_, at)| self.set.hosts[*at].must_run(show));
        held.find(|holder| !holder.is_empty()).unwrap_or_default()
    }

    pub fn renew_host_key(&self, at: usize) {
        self.set.hosts[at].must_run(NEW_HOST_KEY);
        self.set.hosts[at].wait_until_up();
    }

    /// What Google's guest agent and the startup script do, as late as they do it: Google calls the
    /// machine running and SSH is closed, then it answers and knows nobody, then it does: here once it
    /// has refused somebody.
    fn furnish(&self, at: usize, machine: &Machine, first_boot: &str) {
        let (user, key) = machine.ssh_keys.split_once(':').unwrap();
        let keys = format!("/home/{user}/.ssh/authorized_keys");
        self.set.hosts[at].must_run(&format!(
            "rm -f {keys}; nft 'table inet boot {{ chain input {{ type filter hook input priority 0; \
             tcp dport 22 reject with tcp reset; }}; }}'
             ip address flush dev eth0 to 10.80.0.0/16
             ip address replace {}/16 dev eth0; mkdir -p /opt/raftkv
             (sleep 1; nft delete table inet boot
              for try in $(seq 200); do
                grep -q 'authenticating user' /proc/1/fd/2 && break
                sleep 0.1
              done
              {first_boot}
              echo '{key}' >{keys}; touch /run/raft-host-ready) >/dev/null 2>&1 &",
            machine.internal_ip
        ));
    }
}

/// Google with hosts behind its instances.
pub struct World {
    pub cloud: Cloud,
    pub farm: Arc<Mutex<Farm>>,
}

impl World {
    /// A Google whose instances are as many hosts at most.
    pub fn new(yaml: &str, hosts: u8) -> World {
        let farm = Arc::new(Mutex::new(Farm {
            set: TestHosts::start(hosts),
            taken: BTreeMap::new(),
            used: BTreeMap::new(),
            off: BTreeSet::new(),
            machines: BTreeMap::new(),
            done: Vec::new(),
            addresses: tempfile::tempdir().unwrap(),
        }));
        let hook = Arc::clone(&farm);
        let hook = Hook::Function(Arc::new(move |action: &str, machine: &Machine| {
            Ok(hook.lock().unwrap().act(action, machine))
        }));
        World {
            cloud: Cloud::with_hosts(yaml, hook),
            farm,
        }
    }

    pub fn raftctl(&self, arguments: &[&str]) -> Ended {
        self.cloud.raftctl(arguments)
    }

    /// What somebody does who deletes a machine and makes one of the same name, beside its disk.
    pub fn replace_by_hand(&self, instance: &str) {
        let google = &self.cloud.provider.google;
        let instances = google.of_type("google_compute_instance");
        let is_it = |(id, _): &&(String, _)| id.ends_with(&format!("/{instance}"));
        let (id, _) = instances.iter().find(is_it).unwrap();
        google
            .touch(id, |state| state["instance_id"] = "4711".into())
            .unwrap();
        let mut farm = self.farm.lock().unwrap();
        let (at, machine) = (farm.taken[instance], farm.machines[instance].clone());
        farm.set.hosts[at].die();
        farm.set.hosts[at].make_host_key();
        farm.set.revive(at);
        farm.furnish(at, &machine, "");
    }

    /// The node that leads, once it is one that `fits`.
    pub fn leader(&self, fits: impl Fn(u64) -> bool) -> u64 {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let status = self.raftctl(&["status", "--output", "json"]).code(0);
            if let Some(leader) = status.json()["leader"].as_u64().filter(|id| fits(*id)) {
                return leader;
            }
            assert!(Instant::now() < give_up, "no such leader: {status:?}");
        }
    }

    /// Makes what raftctl knows of logins as old as on the next day.
    pub fn age_places(&self) {
        let file = self.cloud.folder.path().join(".raftctl/demo/hosts.json");
        let mut places: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for place in places.as_object_mut().unwrap().values_mut() {
            place["seen_at_seconds"] = 1.into();
        }
        std::fs::write(&file, places.to_string()).unwrap();
    }

    /// What is kept about the machine of a node.
    pub fn kept(&self, name: &str) -> Value {
        let file = self.cloud.folder.path().join(".raftctl/demo/machines.json");
        let kept: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        kept["nodes"][name].clone()
    }

    /// What `raftctl VERB` did to instances since this was asked last, after a check that it held
    /// the cluster's lock on the hosts all the while.
    #[track_caller]
    pub fn done_under_lock(&self, verb: &str) -> Vec<String> {
        let done = std::mem::take(&mut self.farm.lock().unwrap().done);
        let held = format!("`raftctl {verb}`");
        for (action, holder) in &done {
            assert!(holder.contains(&held), "{action} under {holder:?}");
        }
        done.into_iter().map(|(action, _)| action).collect()
    }

    /// What there is in the folder that raftctl keeps of the cluster.
    pub fn left(&self) -> Vec<String> {
        let folder = self.cloud.folder.path().join(".raftctl/demo");
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    /// How many instances there are.
    pub fn instances(&self) -> usize {
        self.cloud
            .provider
            .google
            .of_type("google_compute_instance")
            .len()
    }
}
