//! Whose files: the identity behind a path, as Kopia would choose it.

use std::fs;
use std::path::{Component, Path, PathBuf};

use repository::Identity;
use repository_kopia::Client;

use crate::cli::Shared;
use crate::failure::Failure;

/// Who works here: what was said, else the user's name and the machine's up to its first dot, in lower case.
pub fn client(shared: &Shared) -> Client {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    Client {
        username: named(&shared.user).unwrap_or_else(user_name),
        hostname: named(&shared.host).unwrap_or_else(host_name),
    }
}

fn user_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let variable =
        || ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    account_name(&accounts, uid).map(str::to_owned).or_else(variable).unwrap_or_else(|| uid.to_string())
}

fn account_name(accounts: &str, uid: u32) -> Option<&str> {
    accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    })
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    name.split('.').next().filter(|name| !name.is_empty()).unwrap_or("localhost").to_owned()
}

/// The identity meant by `user@host:/path`, or by a path of this machine.
pub fn identity(text: &str, client: &Client) -> Result<Identity, Failure> {
    let (at, colon) = (text.find('@'), text.find(':'));
    match (at, colon) {
        (Some(at), Some(colon)) if at > 0 && at < colon => text.parse().map_err(|error: repository::IdentityError| {
            Failure::usage(error.to_string(), "write user@host:/path, or a path")
        }),
        _ => of_path(Path::new(text), client),
    }
}

/// The identity of a path of this machine.
pub fn of_path(path: &Path, client: &Client) -> Result<Identity, Failure> {
    let cleaned = absolute(path)?;
    let path = cleaned.to_str().ok_or_else(|| {
        Failure::usage(format!("the path {} is not UTF-8", path.display()), "name it yourself: --as user@host:/path")
    })?;
    Ok(Identity { user: client.username.clone(), host: client.hostname.clone(), path: path.to_owned() })
}

/// The absolute path without `.`, `..` and doubled slashes. Links stay as they are named.
pub fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    if path.as_os_str().is_empty() {
        return Err(Failure::usage("the path is empty", "name a directory or a file"));
    }
    let absolute = std::path::absolute(path).map_err(|error| {
        Failure::blocked(format!("find the current directory: {error}"), "change into a directory that is there")
    })?;
    let mut cleaned = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => cleaned.push(component),
        }
    }
    Ok(cleaned)
}

#[cfg(test)]
mod tests {
    use super::{account_name, identity};
    use repository_kopia::Client;

    #[test]
    fn accounts_are_found_by_number() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nmail:x:8:8::/:\n:x:9:9::/:\nbroken\n";
        assert_eq!(account_name(accounts, 8), Some("mail"));
        assert_eq!([account_name(accounts, 9), account_name(accounts, 10)], [None, None]);
    }

    #[test]
    fn a_text_is_an_identity_or_a_path() {
        let client = Client { username: "u".to_owned(), hostname: "h".to_owned() };
        let check = |text: &str, expected: &str| assert_eq!(identity(text, &client).unwrap().to_string(), expected);
        check("me@box:/data", "me@box:/data");
        check("/srv/./media//photos/../music/", "u@h:/srv/media/music");
        check("/..", "u@h:/");
        check("/strange:name@x", "u@h:/strange:name@x");
        assert!(identity("me@box:", &client).is_err());
        assert!(identity("", &client).is_err());
    }
}
