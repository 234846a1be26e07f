//! The lists of `tests/lists`, row by row: what must be refused while the service serves and goes after the depool, and what must
//! go on, with Poolguard up and with the webhook dead.

use poolguard_harness::command::{Output, run};
use poolguard_harness::datacenter::{Controllers, Datacenter, Who};
use poolguard_harness::lists::{self, Lane, Mode, Row};
use poolguard_harness::objects::{Objects, differences, objects, ready_pods, record};
use poolguard_harness::operator::Operator;
use poolguard_harness::services;
use poolguard_harness::wait::wait_for;

use crate::scenario::{Alone, SOON, Scenario, Shared};

/// A namespace in which the rows of a lane are run.
struct Stage<'a> {
    datacenter: &'a Datacenter,
    operator: &'a Operator,
    name: String,
}

impl Stage<'_> {
    /// A command line of the lists.
    fn script(&self, text: &str) -> Output {
        let prelude = lists::folder().join("prelude.sh");
        let own = self.datacenter.folder.join(&self.name);
        std::fs::create_dir_all(&own).expect("a folder");
        let script = format!("source {}\n{text}", prelude.display());
        let mut command = self.datacenter.shell(Who::Deployer, &script);
        command
            .env("N", &self.name)
            .env("DIR", own)
            .env("LISTS", lists::folder())
            .env("CHART", poolguard_harness::root().join("examples/service-chart"));
        let mut output = run(&mut command).expect("bash");
        text.trim().clone_into(&mut output.command);
        output
    }

    /// The same; it must succeed.
    fn must(&self, what: &str, text: &str) {
        let output = self.script(text);
        assert!(output.ok(), "{}: {what}: `{}` failed: {}", self.name, output.command, output.text());
    }

    fn objects(&self) -> Objects {
        objects(self.datacenter, &self.name).expect("the objects")
    }

    fn refusals(&self) -> f64 {
        self.operator.refused_in(&self.name).expect("the metric")
    }

    /// The lane's objects, and its service guarded and known to the webhook.
    fn prepare(&self, lane: &Lane, manifest: &str) {
        self.must("setup", &lane.setup);
        self.must("guard", &format!("manifest {manifest} | kubectl apply --server-side -f -"));
        self.must("guard", "kubectl wait servicepooling --all --for=condition=Guarded --timeout=90s");
        services::ready(self.datacenter, &self.name).expect("ready pods");
        // Each kind is known by a watch of its own: all that is there has to be known before a row counts.
        let kinds = "deployments statefulsets daemonsets replicationcontrollers rollouts.example.dev services";
        let all = format!(
            "for kind in {kinds}; do for name in $(kubectl get $kind -o name); do \
             wait_until bash -c \"command kubectl -n $N delete $name --dry-run=server 2>&1 | grep -q 'serves live traffic'\"; done; done"
        );
        if manifest == "pooling" {
            self.must("the view", &all);
        } else {
            self.must("the view", "wait_until bash -c \"command kubectl -n $N delete deployment $MAIN --dry-run=server 2>&1 | grep -q 'serves live traffic'\"");
        }
    }

    /// A row that must be refused, with everything as before.
    fn refused(&self, row: &Row) {
        let Row { title, mode, .. } = row;
        let (before, ready, refusals) = (self.objects(), self.ready(), self.refusals());
        let output = self.script(&row.run);
        let told = format!("{}: {title}: `{}`", self.name, output.command);
        assert_eq!(output.ok(), *mode == Mode::Orphans, "{told} ended with {}: {}", output.code, output.text());
        assert!(self.refusals() > refusals, "{told} failed, but not by the webhook: {}", output.text());
        assert!(output.text().contains("serves live traffic in eqiad"), "{told} says {}", output.text());
        let changed: Vec<String> =
            differences(&before, &self.objects()).into_iter().filter(|change| !mode.allows(change)).collect();
        assert!(changed.is_empty(), "{told} changed {changed:?}");
        assert_eq!(self.ready(), ready, "{told}: pods that are ready");
        let deployed = self.script("kubectl get secrets,configmaps -l owner=helm,name=main,status=deployed -o name");
        // Helm itself has marked it, where a rollback failed.
        assert!(
            *mode == Mode::Rollback || !deployed.stdout.trim().is_empty(),
            "{told}: no record of the release is deployed"
        );
        if matches!(mode, Mode::Fails | Mode::Adds) && !output.command.contains("HELM_DRIVER") {
            let status = record(self.datacenter, &self.name, "main").expect("the record");
            assert_eq!(status.as_deref(), Some("deployed"), "{told}: the record");
        }
    }

    fn ready(&self) -> usize {
        ready_pods(self.datacenter, &self.name).expect("the pods")
    }

    /// The same row, which must succeed now.
    fn goes(&self, lane: &Lane, row: &Row) {
        let before = (row.mode == Mode::Orphans).then(|| self.objects());
        self.must(&row.title, &row.run);
        if let Some(before) = before {
            let gone = differences(&before, &self.objects());
            assert!(gone.iter().any(|change| change.ends_with("is gone")), "{}: nothing went: {gone:?}", row.title);
        }
        if !row.last {
            self.must("restore", &lane.restore);
        }
    }

    /// A row that must go on, and nothing may be refused by it.
    fn goes_on(&self, row: &Row, dead: bool) {
        // Dry runs, by which the scripts wait for the webhook's view, are not counted.
        let refusals = if dead { 0.0 } else { self.refusals() };
        self.must(&row.title, &row.run);
        if !dead {
            let refused = self.refusals() - refusals;
            assert!(refused < 0.5, "{}: {}: {refused} requests were refused", self.name, row.title);
        }
    }
}

/// What a refusal may leave besides.
trait Leaves {
    fn allows(self, change: &str) -> bool;
}

impl Leaves for Mode {
    fn allows(self, change: &str) -> bool {
        let record = change.starts_with("Secret sh.helm.release.v1.");
        match self {
            Self::Fails => false,
            Self::Orphans | Self::Revision | Self::Rollback => record,
            Self::Adds => change.ends_with("is new") && !record,
        }
    }
}

fn lane(list: Vec<Lane>, name: &str) -> Lane {
    list.into_iter().find(|lane| lane.lane == name).expect("a lane of this name")
}

/// Every row of a lane is refused, and goes after the depool.
fn refuse(name: &str) {
    let lane = lane(lists::refused().expect("the list"), name);
    let scenario = Scenario::bare(&format!("refused-{name}"));
    let Shared { fleet, operator } = Scenario::shared();
    let stage = Stage { datacenter: &fleet.eqiad, operator, name: scenario.name.clone() };
    stage.prepare(&lane, "pooling");
    stage.must("after", &lane.after);
    for row in &lane.rows {
        stage.refused(row);
    }
    scenario.depool();
    for row in &lane.rows {
        stage.goes(&lane, row);
    }
}

macro_rules! lanes {
    ($($test:ident: $lane:literal;)*) => {
        $(#[test]
        fn $test() {
            refuse($lane);
        })*

        const LANES: &[&str] = &[$($lane),*];
    };
}

lanes! {
    uninstalling_a_release_is_refused_and_goes_after_the_depool: "helm";
    so_is_one_with_hooks: "hooks";
    so_is_one_whose_records_are_config_maps: "driver";
    a_rollback_that_takes_the_service_away_is_refused_and_goes_after_the_depool: "rollback";
    an_upgrade_that_takes_the_service_away_is_refused_and_goes_after_the_depool: "upgrade";
    every_way_to_delete_is_refused_and_goes_after_the_depool: "delete";
    pruning_is_refused_and_goes_after_the_depool: "prune";
    every_way_to_scale_to_zero_is_refused_and_goes_after_the_depool: "scale";
    the_last_ready_ordinal_stays_until_the_depool: "ordinals";
    changing_what_leads_to_the_pods_is_refused_and_goes_after_the_depool: "change";
    opening_the_guard_is_refused_and_goes_after_the_depool: "guard";
}

#[test]
fn every_lane_of_the_list_is_run() {
    let listed: Vec<String> = lists::refused().expect("the list").into_iter().map(|lane| lane.lane).collect();
    assert_eq!(listed, LANES);
    let listed: Vec<String> = lists::passes().expect("the list").into_iter().map(|lane| lane.lane).collect();
    assert_eq!(listed, ["work", "nodes"]);
}

/// A namespace for a lane of what goes on.
fn working<'a>(datacenter: &'a Datacenter, operator: &'a Operator, lane: &Lane) -> Stage<'a> {
    let stage = Stage { datacenter, operator, name: format!("passes-{}", lane.lane) };
    services::namespace(datacenter, &stage.name).expect("a namespace");
    stage.prepare(lane, "expendable");
    stage
}

fn up(name: &str) {
    let lane = lane(lists::passes().expect("the list"), name);
    let Shared { fleet, operator } = Scenario::shared();
    let stage = working(&fleet.eqiad, operator, &lane);
    lane.rows.iter().for_each(|row| stage.goes_on(row, false));
}

#[test]
fn ordinary_work_goes_on() {
    up("work");
}

#[test]
fn nodes_are_drained_tainted_and_lost() {
    up("nodes");
}

#[test]
fn both_go_on_with_the_webhook_dead() {
    dead(Controllers::Apart, false);
}

#[test]
fn all_of_it_goes_on_with_one_identity_for_all_controllers() {
    dead(Controllers::AsOne, true);
}

/// A datacenter of its own, in which the webhook dies.
fn dead(controllers: Controllers, up_before: bool) {
    let Alone { datacenter, operator, .. } = &Alone::start(controllers);
    let lanes = lists::passes().expect("the list");
    let stages: Vec<Stage<'_>> = lanes.iter().map(|lane| working(datacenter, operator, lane)).collect();
    let all = |dead: bool| {
        std::thread::scope(|scope| {
            for (lane, stage) in lanes.iter().zip(&stages) {
                scope.spawn(move || {
                    let rows = lane.rows.iter().filter(|row| !dead || row.down);
                    rows.for_each(|row| stage.goes_on(row, dead));
                });
            }
        });
    };
    if up_before {
        all(false);
    }
    let going = "kubectl create configmap held; kubectl patch configmap held --type=merge -p '{\"metadata\":{\"finalizers\":[\"example.dev/hold\"]}}'";
    let leaving = Stage { datacenter, operator, name: "passes-leaving".to_owned() };
    services::namespace(datacenter, &leaving.name).expect("a namespace");
    leaving.prepare(
        &Lane {
            lane: "leaving".to_owned(),
            about: String::new(),
            setup: "release".to_owned(),
            after: String::new(),
            restore: String::new(),
            rows: Vec::new(),
        },
        "expendable",
    );
    leaving.must("something that holds the namespace", going);
    leaving.must("a depool", "kubectl patch servicepooling $N --type=json -p '[{\"op\":\"replace\",\"path\":\"/spec/evidence/0/declared/pooledIn\",\"value\":[\"codfw\"]}]'");
    leaving.must("a namespace that goes", "wait_until command kubectl delete namespace $N --wait=false");
    operator.stop(datacenter, "webhook", true).expect("the webhook dies");
    for stage in &stages {
        let output = stage.script("kubectl delete deployment $MAIN");
        assert!(!output.ok() && output.text().contains("failed calling webhook"), "{}", output.text());
    }
    leaving
        .must("the finalizer", "kubectl patch configmap held --type=merge -p '{\"metadata\":{\"finalizers\":null}}'");
    wait_for("the namespace to be finished while the webhook is dead", SOON, || {
        let output = datacenter.kubectl(&["get", "namespace", &leaving.name])?;
        anyhow::ensure!(!output.ok(), "it is still there");
        Ok(())
    })
    .expect("the namespace controller works");
    all(true);
}
