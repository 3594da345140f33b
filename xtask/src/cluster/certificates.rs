//! One authority for everything, made anew with each cluster. Certificates are for servers and for the API server's own
//! calls; everybody else has a token, which is one line instead of a key and a certificate.

use crate::cluster::settings::{Cluster, Network, write};
use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Who gets a kubeconfig: file name, user, groups.
const CLIENTS: [(&str, &str, &str); 6] = [
    ("admin", "admin", "system:masters"),
    ("sidecars", "system:kube-sidecars", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
    ("kubelet", "system:node:node", "system:nodes"),
];

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Writes `pki/` and the kubeconfigs.
pub fn write_all(cluster: &Cluster, network: Network) -> Result<()> {
    let pki = cluster.state.join("pki");
    let authority = authority(&cluster.context()).context("make the authority")?;
    write(&pki.join("ca.crt"), &authority.pem())?;
    write_secret(&pki.join("ca.key"), &authority.key().serialize_pem())?;

    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let mut names = names.to_vec();
    names.push("kubernetes.default.svc.cluster.local".to_owned());
    names.extend(["127.0.0.1".to_owned(), network.node(), network.api_service()]);
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    issue(&authority, &pki, "apiserver", "kube-apiserver", None, names, server)?;
    // The API server's own identity towards the kubelet (logs, exec).
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    issue(&authority, &pki, "kubelet-client", "kube-apiserver", Some("system:masters"), Vec::new(), client.clone())?;
    // And towards API servers behind it.
    issue(&authority, &pki, "front-proxy", "front-proxy", None, Vec::new(), client)?;

    let accounts = KeyPair::generate().context("make the key of service accounts")?;
    write_secret(&pki.join("service-account.key"), &accounts.serialize_pem())?;
    write(&pki.join("service-account.pub"), &accounts.public_key_pem())?;

    let mut tokens = String::new();
    for (file, user, groups) in CLIENTS {
        let token = token()?;
        tokens.push_str(&format!("{token},{user},{user},\"{groups}\"\n"));
        let path = cluster.state.join("config").join(format!("{file}.kubeconfig"));
        write_secret(&path, &kubeconfig(cluster, network, &authority.pem(), user, &token))?;
    }
    write_secret(&pki.join("tokens.csv"), &tokens)
}

fn authority(name: &str) -> Result<Authority> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = distinguished(name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn issue(
    authority: &Authority,
    pki: &Path,
    file: &str,
    name: &str,
    organization: Option<&str>,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<()> {
    let key = KeyPair::generate().with_context(|| format!("make the key of {file}"))?;
    let mut params = CertificateParams::new(names).with_context(|| format!("name {file}"))?;
    params.distinguished_name = distinguished(name, organization);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, authority).with_context(|| format!("sign {file}"))?;
    write(&pki.join(format!("{file}.crt")), &certificate.pem())?;
    write_secret(&pki.join(format!("{file}.key")), &key.serialize_pem())
}

fn distinguished(name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    if let Some(organization) = organization {
        distinguished.push(DnType::OrganizationName, organization);
    }
    distinguished
}

fn kubeconfig(cluster: &Cluster, network: Network, authority: &str, user: &str, token: &str) -> String {
    let context = cluster.context();
    let document = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": context,
        "clusters": [{"name": context, "cluster": {
            "server": format!("https://{}:6443", network.node()),
            "certificate-authority-data": base64(authority.as_bytes()),
        }}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        "users": [{"name": user, "user": {"token": token}}],
    });
    format!("{document:#}\n")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn token() -> Result<String> {
    let mut bytes = [0; 16];
    let mut source = std::fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    source.read_exact(&mut bytes).context("read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.with_context(|| format!("write {}", path.display()))
}
