use anyhow::{Result, ensure};
use e2e::{POD, Pod, SERVICE, Space};
use serde_json::json;

#[test]
fn a_restricted_pod_runs_where_only_those_may() -> Result<()> {
    e2e::test("plain", async |space| {
        let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
        let strict = Space::create(&space.cluster, "strict", &labels).await?;
        let refused = strict.create_object(&POD, Pod::idle("loose").build()).await;
        ensure!(refused.is_err_and(|error| format!("{error:#}").contains("violates PodSecurity")));
        let pod = Pod::shell("strict", "! touch /x 2>&1 && echo ok >/memory/x && cat /memory/x")
            .with(
                "securityContext",
                json!({"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}}),
            )
            .with_container(
                "securityContext",
                json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}),
            )
            .with_container("resources", json!({"limits": {"cpu": "200m", "memory": "64Mi"}}))
            .volume(
                "memory",
                json!({"emptyDir": {"medium": "Memory", "sizeLimit": "10Mi"}}),
                json!({"mountPath": "/memory"}),
            );
        strict.create_object(&POD, pod.build()).await?;
        let said = strict.succeeded("strict").await?;
        ensure!(said.ends_with("ok\n"), "{said}");
        strict.delete().await
    })
}

#[test]
fn a_privileged_pod_may_mount() -> Result<()> {
    e2e::test("privileged", async |space| {
        let pod = Pod::shell("mount", "mount -t tmpfs none /tmp && echo mounted")
            .with_container("securityContext", json!({"privileged": true}));
        space.create_object(&POD, pod.build()).await?;
        ensure!(space.succeeded("mount").await? == "mounted\n");
        Ok(())
    })
}

#[test]
fn a_pod_that_takes_too_much_memory_is_killed() -> Result<()> {
    e2e::test("memory", async |space| {
        let pod =
            Pod::shell("hog", "tail /dev/zero").with_container("resources", json!({"limits": {"memory": "32Mi"}}));
        space.create_object(&POD, pod.build()).await?;
        let killed = |pod: &serde_json::Value| {
            // The reason says OOMKilled unless the container is gone before containerd hears of it.
            Ok(pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137)
        };
        space.until(&POD, "hog", "is killed", killed).await?;
        Ok(())
    })
}

#[test]
fn commands_run_in_a_pod_and_say_how_they_end() -> Result<()> {
    e2e::test("exec", async |space| {
        space.create_object(&POD, Pod::idle("pod").build()).await?;
        space.ready("pod").await?;
        let output = space.exec("pod", &["sh", "-c", "echo out; echo error >&2; exit 3"]).await?;
        ensure!(output.stdout == "out\n" && output.stderr == "error\n" && !output.success, "{output:?}");
        Ok(())
    })
}

#[test]
fn pods_find_services_by_name() -> Result<()> {
    e2e::test("names", async |space| {
        let serve = "mkdir /tmp/www && echo hello >/tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www";
        let server = Pod::shell("server", serve)
            .label("app", "server")
            .with_container("readinessProbe", json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1}));
        space.create_object(&POD, server.build()).await?;
        let service = json!({
            "metadata": {"name": "web"},
            "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        space.create_object(&SERVICE, service).await?;
        space.ready("server").await?;
        space.create_object(&POD, Pod::idle("client").build()).await?;
        space.ready("client").await?;
        space.retry("the Service answers", async || space.shell("client", "wget -q -O - http://web/").await).await?;
        space.shell("client", "nc -w 2 kubernetes.default 443 </dev/null").await?;
        Ok(())
    })
}
