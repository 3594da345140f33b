//! What is shipped for API servers before 1.36, tried on this one, which still speaks their versions.

use anyhow::Result;
use e2e::shipped::Shell;

#[test]
fn an_api_server_with_the_policies_as_v1beta1_takes_them() -> Result<()> {
    e2e::test("older", async |space| {
        let shell = Shell::new(&space.name)?;
        // Nothing is changed; expressions are compiled all the same.
        shell.says(
            "kubectl apply --server-side --dry-run=server --force-conflicts -k deploy/examples/kubernetes-1.34",
            &[
                "mutatingadmissionpolicy.admissionregistration.k8s.io/perennial-mark serverside-applied",
                "mutatingadmissionpolicy.admissionregistration.k8s.io/perennial-mark-by-policy serverside-applied",
                "mutatingadmissionpolicybinding.admissionregistration.k8s.io/perennial-mark-by-policy",
            ],
        )?;
        Ok(())
    })
}
