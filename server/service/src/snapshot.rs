//! Everything there is, out to a file and back.

use consensus::{Restored, Restoring, Saving};
use state::Indexed;

use crate::answer::{Answer, ReadOptions};
use crate::error::Error;
use crate::{Caller, Right, Service};

impl Service {
    /// Saves everything as it is at one revision, as fresh as `options` asks. Whoever may do that reads
    /// every secret, and so needs the right to write.
    pub async fn save_snapshot(&self, caller: &Caller, options: &ReadOptions) -> Result<Answer<Saving>, Error> {
        self.authorize(caller, Right::OperatorWrite)?;
        let tables = self.snapshot(options).await?;
        let saving = self.consensus().save(tables.clone(), self.identity().version);
        Ok(self.answer(Indexed::exact(saving, tables.applied()), &tables, options.consistency))
    }

    /// Begins to replace everything by a snapshot. Nothing is changed before its end was received and
    /// found whole.
    pub fn begin_restore(&self, caller: &Caller, datacenter: Option<&str>) -> Result<Restoring, Error> {
        self.authorize(caller, Right::OperatorWrite)?;
        self.check_datacenter(datacenter)?;
        Ok(self.consensus().restore())
    }

    /// Takes the next bytes of a snapshot.
    pub async fn restore_more(&self, restoring: &mut Restoring, bytes: &[u8]) -> Result<(), Error> {
        Ok(restoring.push(bytes).await?)
    }

    /// Puts the snapshot in the place of everything.
    pub async fn finish_restore(&self, restoring: Restoring) -> Result<Restored, Error> {
        Ok(restoring.finish().await?)
    }
}
