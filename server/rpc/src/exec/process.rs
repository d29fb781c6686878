//! One program under way: its output in pieces, its end, and the end of its children with it.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use process::Group;
use proto::internal::v1 as pb;
use proto::internal::v1::work_request::Say;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Read at a time.
const PIECE: usize = 16 * 1024;

/// Most output of one program that is told, in bytes; what comes beyond it is counted.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How long the output of a program that has ended may still flow.
const LEFT_BEHIND: Duration = Duration::from_secs(10);

/// Exit code of a program that could not be run, as shells have it.
const NOT_RUN: i32 = 127;

/// Runs the program to its end, and says what it prints. When this is dropped, the program is killed
/// with its children.
pub(crate) async fn run(job: &pb::WorkResponse, says: &mpsc::Sender<pb::WorkRequest>) {
    let ended = match spawn(job) {
        Ok(child) => follow(child, Duration::from_millis(job.timeout_ms), says).await,
        Err(error) => {
            say(says, Say::Begun(pb::WorkBegun {})).await;
            let text = format!("`{}` cannot be run: {error}\n", job.args.join(" "));
            say(says, Say::Output(pb::WorkOutput { data: text.into(), stderr: true })).await;
            pb::WorkEnded { code: NOT_RUN, ..Default::default() }
        }
    };
    say(says, Say::Ended(ended)).await;
}

async fn say(says: &mpsc::Sender<pb::WorkRequest>, say: Say) {
    // Nobody listens any more: then this is about to be dropped.
    let _ = says.send(pb::WorkRequest { say: Some(say) }).await;
}

fn spawn(job: &pb::WorkResponse) -> std::io::Result<Child> {
    let mut command = if job.shell {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(job.args.join(" "));
        command
    } else {
        let (program, args) = job.args.split_first().ok_or_else(|| std::io::Error::other("no program is named"))?;
        let mut command = Command::new(program);
        command.args(args);
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true).spawn()
}

async fn follow(mut child: Child, length: Duration, says: &mpsc::Sender<pb::WorkRequest>) -> pb::WorkEnded {
    let mut group = Group::of(&child);
    let deadline = Instant::now() + length;
    say(says, Say::Begun(pb::WorkBegun {})).await;
    let told = std::sync::atomic::AtomicU64::new(0);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut talking = std::pin::pin!(async { tokio::join!(tell(stdout, false, &told, says), tell(stderr, true, &told, says)) });
    let mut over = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.ok(),
            _ = &mut talking, if !over => over = true,
            () = tokio::time::sleep_until(deadline) => break None,
        }
    };
    let timed_out = status.is_none();
    let status = match status {
        Some(status) => Some(status),
        None => {
            group.kill();
            child.wait().await.ok()
        }
    };
    // Children that the program has left behind end with it.
    group.kill();
    if !over {
        // What is on its way is told, however slow the listener; the bound is for those who have left
        // the group and hold the output.
        let _ = timeout_at(Instant::now() + LEFT_BEHIND, talking).await;
    }
    let told = told.load(std::sync::atomic::Ordering::Relaxed);
    pb::WorkEnded { code: status.map_or(NOT_RUN, code), timed_out, bytes_dropped: told.saturating_sub(OUTPUT_BYTES_MAX) }
}

/// Says what comes, up to the bound.
async fn tell(
    from: Option<impl AsyncRead + Unpin>,
    stderr: bool,
    told: &std::sync::atomic::AtomicU64,
    says: &mpsc::Sender<pb::WorkRequest>,
) {
    let Some(mut from) = from else { return };
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        let before = told.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        let room = OUTPUT_BYTES_MAX.saturating_sub(before).min(count as u64) as usize;
        if room > 0 {
            let data = bytes::Bytes::copy_from_slice(&piece[..room]);
            say(says, Say::Output(pb::WorkOutput { data, stderr })).await;
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
