//! The generated gRPC code; `proto/README.md` says how it was made.

/// The Container Storage Interface, version 1.
#[expect(clippy::all, clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod csi {
    include!("generated/csi.in");
}

/// How plugins make themselves known to a kubelet.
#[expect(clippy::allow_attributes, clippy::allow_attributes_without_reason, reason = "generated")]
pub mod registration {
    include!("generated/registration.in");
}
