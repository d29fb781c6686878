//! Programs run on many machines at once.

use proto::v1;
use proto::v1::exec_service_client::ExecServiceClient;

use crate::error::Error;
use crate::pool::Pool;

/// Calls that run programs.
#[derive(Clone, Copy)]
pub struct Exec<'a> {
    pool: &'a Pool,
}

/// What the machines of a run say, as it comes. When this is dropped the programs are ended.
pub struct ExecStream {
    stream: tonic::Streaming<v1::ExecServiceRunResponse>,
}

impl ExecStream {
    /// The next message; `None` when the run is over.
    pub async fn next(&mut self) -> Result<Option<v1::ExecServiceRunResponse>, Error> {
        self.stream.message().await.map_err(|status| Error::from_status(&status, "the agent", std::time::Duration::ZERO))
    }
}

impl<'a> Exec<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Exec { pool }
    }

    /// Runs a program on the machines that the filters choose.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::v1::ExecServiceRunRequest;
    /// let uptime = ExecServiceRunRequest { args: vec!["uptime".into()], node_filter: "^web".into(), ..Default::default() };
    /// let mut run = client.exec().run(uptime).await?;
    /// while let Some(message) = run.next().await? {
    ///     println!("{}: {:?}", message.node, message.news);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run(&self, request: v1::ExecServiceRunRequest) -> Result<ExecStream, Error> {
        let send = |channel, request| async move { ExecServiceClient::new(channel).run(request).await };
        Ok(ExecStream { stream: self.pool.stream(request, send).await? })
    }
}
