//! Programs that an agent starts: checks, handlers of watches, and what it is asked to run.
//!
//! Each leads a group of processes of its own. Its children are in it, unless they have left it, and so they can be ended with it.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;

/// The processes of a program that was started as the leader of a group of its own. What is left of them when
/// the value goes is killed.
pub struct Group {
    leader: Option<Pid>,
}

impl Group {
    /// The group that `child` leads, which was started with `process_group(0)`.
    pub fn of(child: &Child) -> Self {
        Group { leader: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) }
    }

    /// Leaves whoever is left alone. To be called once the group may have ended: its number may be somebody else's by then.
    pub fn spare(&mut self) {
        self.leader = None;
    }

    /// Kills whoever is left.
    pub fn kill(&mut self) {
        if let Some(leader) = self.leader.take() {
            // It fails only when nobody is left.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::io::AsyncReadExt;
    use tokio::process::Command;

    use super::*;

    /// A program whose child holds its output.
    fn started() -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & wait"]).stdout(Stdio::piped()).process_group(0);
        command.spawn().expect("there is a shell")
    }

    #[tokio::test]
    async fn the_children_end_with_the_group() {
        let mut child = started();
        let mut output = child.stdout.take().expect("it is a pipe");
        drop(Group::of(&child));
        let mut nothing = Vec::new();
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), output.read_to_end(&mut nothing)).await;
        assert_eq!(read.expect("nobody holds the output any more").expect("a pipe can be read"), 0);
        assert!(!child.wait().await.expect("it can be waited for").success());
    }

    #[tokio::test]
    async fn who_is_spared_goes_on() {
        let mut child = started();
        let mut group = Group::of(&child);
        group.spare();
        drop(group);
        assert!(child.try_wait().expect("it can be asked").is_none());
        Group::of(&child).kill();
        assert!(!child.wait().await.expect("it can be waited for").success());
    }
}
