//! The five example services of the outage, each in a namespace of its own name, and conftool as it was on that morning.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::conftool::{Conftool, TTL};
use crate::datacenter::{Datacenter, Who};
use crate::fleet::NAMES;
use crate::wait::wait_for;

/// A service: its name is also that of its namespace, its record and its `ServicePooling`.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// The value of its label `app`.
    pub app: &'static str,
    /// Its Helm releases, in the order of their installation.
    pub releases: &'static [&'static str],
    /// The only datacenter in which it was pooled.
    pub pooled_in: &'static str,
}

/// The services in the order in which they are migrated; the last one is the snowflake.
pub const SERVICES: [Service; 5] = [
    Service { name: "mathoid", app: "mathoid", releases: &["main"], pooled_in: "codfw" },
    Service { name: "citoid", app: "citoid", releases: &["main"], pooled_in: "codfw" },
    Service { name: "zotero", app: "zotero", releases: &["main"], pooled_in: "codfw" },
    Service { name: "eventgate-analytics", app: "eventgate", releases: &["main"], pooled_in: "codfw" },
    Service { name: "eventgate-main", app: "eventgate", releases: &["main", "canary"], pooled_in: "eqiad" },
];

/// The service that was believed to be pooled in both datacenters.
pub const SNOWFLAKE: Service = SERVICES[4];

/// Sets conftool as it was.
///
/// # Errors
/// If conftool fails.
pub fn pool(conftool: &Conftool) -> Result<()> {
    let names: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
    conftool.sync(&names, &NAMES)?;
    for service in &SERVICES {
        for name in NAMES {
            conftool.confctl(service.name, name, &format!("set/ttl={TTL}"))?.success()?;
        }
        conftool.pool(service.name, service.pooled_in, true)?;
    }
    Ok(())
}

/// Makes the namespace of a service, and a deployer's rights in it.
///
/// # Errors
/// If `kubectl` fails.
pub fn namespace(datacenter: &Datacenter, name: &str) -> Result<()> {
    datacenter.apply(&format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {name}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: deployers, namespace: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: deployers}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: deployers-poolings, namespace: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: harness-deployer-objects}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: deployers}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: harness-deployer-objects}}
rules:
- {{apiGroups: [poolguard.dev], resources: [servicepoolings], verbs: ["*"]}}
- {{apiGroups: [gateway.networking.k8s.io], resources: [httproutes], verbs: ["*"]}}
- {{apiGroups: [example.dev], resources: [rollouts, rollouts/scale, rollouts/status], verbs: ["*"]}}
- {{apiGroups: [""], resources: [pods/eviction], verbs: [create]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: "harness-deployer-namespace-{name}"}}
rules:
- {{apiGroups: [""], resources: [namespaces, namespaces/status, namespaces/finalize], resourceNames: [{name}], verbs: [get, delete, update, patch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: "harness-deployer-namespace-{name}"}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "harness-deployer-namespace-{name}"}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: deployers}}]
"#
    ))?;
    // The API server learns of new roles by a watch of its own, and a young one still aggregates the role admin.
    wait_for(&format!("a deployer's rights in {name}"), Duration::from_secs(60), || {
        datacenter.call(Who::Deployer, "kubectl", &["-n", name, "auth", "can-i", "list", "secrets"])?.success()
    })?;
    Ok(())
}

/// Installs one release with the example chart, as a deployer, and waits until its pods are ready.
///
/// # Errors
/// If `helm` fails.
pub fn install(datacenter: &Datacenter, helm: &str, namespace: &str, app: &str, release: &str) -> Result<()> {
    let chart = crate::root().join("examples/service-chart");
    let canary = release == "canary";
    datacenter
        .call(
            Who::Deployer,
            helm,
            &[
                "upgrade",
                "--install",
                release,
                &chart.to_string_lossy(),
                "--namespace",
                namespace,
                "--set",
                &format!("app={app},canary={canary}"),
            ],
        )?
        .success()?;
    Ok(())
}

/// Installs a service with all of its releases.
///
/// # Errors
/// If something fails.
pub fn deploy(datacenter: &Datacenter, service: &Service) -> Result<()> {
    namespace(datacenter, service.name)?;
    for release in service.releases {
        install(datacenter, "helm3", service.name, service.app, release)?;
    }
    Ok(())
}

/// Waits until every Deployment of a namespace has all of its pods ready.
///
/// # Errors
/// After a minute.
pub fn ready(datacenter: &Datacenter, namespace: &str) -> Result<()> {
    datacenter
        .kubectl(&["-n", namespace, "wait", "deployment", "--all", "--for=condition=Available", "--timeout=60s"])?
        .success()?;
    datacenter
        .kubectl(&["-n", namespace, "wait", "pods", "--all", "--for=condition=Ready", "--timeout=60s"])?
        .success()?;
    Ok(())
}

/// Applies the `ServicePooling` of a service.
///
/// # Errors
/// If `kubectl` fails.
pub fn guard(datacenter: &Datacenter, service: &Service) -> Result<()> {
    datacenter.apply_file(&crate::root().join(format!("examples/services/{}.yaml", service.name)))
}

/// Waits until the `ServicePooling` of a service, in a namespace of the same name, says that it is guarded.
///
/// # Errors
/// After a minute.
pub fn guarded(datacenter: &Datacenter, service: &str) -> Result<()> {
    let name = format!("servicepooling/{service}");
    datacenter
        .kubectl(&["-n", service, "wait", &name, "--for=condition=Guarded", "--timeout=60s"])?
        .success()
        .with_context(|| format!("{service} of {} is not guarded", datacenter.name))?;
    Ok(())
}

/// Installs every service and, if `poolguard` is there, guards it; waits until all is ready.
///
/// # Errors
/// If something cannot be installed or does not become ready.
pub fn populate(datacenter: &Datacenter, poolguard: bool) -> Result<()> {
    for service in &SERVICES {
        deploy(datacenter, service)?;
        if poolguard {
            guard(datacenter, service)?;
        }
    }
    for service in &SERVICES {
        ready(datacenter, service.name)?;
        if poolguard {
            guarded(datacenter, service.name)?;
        }
    }
    Ok(())
}
