//! What is deleted without doing it, by whom, and whose processor time counts.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use poolguard_harness::http::request;
use poolguard_harness::ports::Ports;
use poolguard_harness::programs::Programs;
use poolguard_harness::wait::wait_for;

use crate::bench::contestant::Services;
use crate::bench::store;
use crate::bench::world::World;

const SOON: Duration = Duration::from_secs(60);
/// So many pods are deleted in turn.
const FEW: usize = 5;

/// An API server with services, a pod of each, and somebody who may delete them.
pub struct Stage {
    /// The API server and what it holds.
    pub world: World,
    /// The API server over plain HTTP, for what is not measured.
    pub proxy: String,
    /// The API server.
    pub address: SocketAddr,
    /// As whom pods are deleted.
    pub token: String,
    /// The process of the API server.
    pub server: Vec<u32>,
    /// Those of both etcds.
    pub stores: Vec<u32>,
    /// Pods of services that are pooled here.
    pub pooled: Vec<String>,
    /// Pods of services that are not.
    pub depooled: Vec<String>,
    _ports: Ports,
}

impl Stage {
    /// Starts it.
    ///
    /// # Errors
    /// If something does not come up.
    pub fn start(programs: &Programs, services: Services) -> Result<Self> {
        let world = World::start(programs, services)?;
        let pods: Vec<_> = store::pods(services, services.count).collect();
        store::write(&world.etcd, &pods)?;
        let run = world.datacenter.run();
        let mut ports = Ports::new();
        let proxy = world.datacenter.proxy(&mut ports)?;
        wait_for("the API server over plain HTTP", SOON, || {
            let answer = request(&proxy, "GET", "/readyz", &[], "")?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        })?;
        let pid = |name: &str| run.pid(name).with_context(|| format!("{name} has not been started"));
        let name = &world.datacenter.name;
        let few = |pooled: bool| {
            let all: Vec<usize> = (0..services.count).filter(|index| services.pooled(*index) == pooled).collect();
            let few = all.iter().copied().step_by((all.len() / FEW).max(1)).take(FEW);
            few.map(|index| path(services, index)).collect::<Vec<_>>()
        };
        Ok(Self {
            server: vec![pid(&format!("{name}-kube-apiserver"))?],
            stores: vec![pid(&format!("{name}-etcd"))?, pid("conftool-etcd")?],
            address: world.datacenter.server.trim_start_matches("https://").parse().context("a strange address")?,
            token: account(&world)?,
            pooled: few(true),
            depooled: few(false),
            proxy,
            world,
            _ports: ports,
        })
    }
}

/// The pod of a service.
fn path(services: Services, index: usize) -> String {
    format!("/api/v1/namespaces/{}/pods/{}-0", services.namespace(index), services.name(index))
}

/// An account that may delete pods. Returns its token.
fn account(world: &World) -> Result<String> {
    let namespace = world.services.namespace(0);
    world.datacenter.apply(&format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: operator, namespace: {namespace}}}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: operator, namespace: {namespace}}}\n\
         rules: [{{apiGroups: [''], resources: [pods], verbs: [delete]}}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: operator, namespace: {namespace}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: operator}}\n\
         subjects: [{{kind: ServiceAccount, name: operator, namespace: {namespace}}}]\n"
    ))?;
    let create = ["-n", &namespace, "create", "token", "operator", "--duration=24h"];
    Ok(world.datacenter.kubectl(&create)?.success()?.trim().to_owned())
}
