//! Keys, on every member of a sealed pool.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Pool;
use crate::keyring::Key;
use crate::member::Status;
use crate::memory::replace;
use crate::options::{Error, KeyAnswers, KeyOperation};
use crate::wire::{self, KeyCommand, Question, Reply};

/// Members that are asked at a time: each is a connection and up to ten seconds.
const ASKED_MAX: usize = 64;

impl Pool {
    /// Has every living member do something with its keys, and collects their answers.
    pub async fn keys(&self, operation: KeyOperation) -> Result<KeyAnswers, Error> {
        if !self.is_sealed() {
            return Err(Error::Refused("this pool is not sealed, so it has no keys; start every agent with `-encrypt`".into()));
        }
        let bytes = |key: &Key| wire::encode(&key.to_base64());
        let command = match &operation {
            KeyOperation::List => KeyCommand::List,
            KeyOperation::Install(key) => KeyCommand::Install(bytes(key)),
            KeyOperation::Use(key) => KeyCommand::Use(bytes(key)),
            KeyOperation::Remove(key) => KeyCommand::Remove(bytes(key)),
        };
        let mut asked = JoinSet::new();
        let turns = Arc::new(Semaphore::new(ASKED_MAX));
        let living = self.members().into_iter().filter(|member| member.status == Status::Alive);
        for member in living {
            let (pool, command, turns) = (self.clone(), command.clone(), turns.clone());
            asked.spawn(async move {
                let _turn = turns.acquire_owned().await.expect("nobody closes it");
                let address = SocketAddr::new(member.address, member.port);
                let answer = if address == pool.address() {
                    Ok(pool.do_keys(&command))
                } else {
                    pool.ask(&address.to_string(), &Question::Keys(command)).await
                };
                let keys = match answer {
                    Ok(Reply::Keys(keys)) => keys.iter().map(|key| read_key(key)).collect(),
                    Ok(Reply::Refused(why)) | Err(why) => Err(why),
                    Ok(Reply::State(_) | Reply::Pong) => Err("it answered something else".to_owned()),
                };
                (member.name, keys)
            });
        }
        let mut answers = KeyAnswers::new();
        while let Some(Ok((name, keys))) = asked.join_next().await {
            answers.insert(name, keys);
        }
        Ok(answers)
    }

    /// Does something with this member's own keys.
    pub(super) fn do_keys(&self, command: &KeyCommand) -> Reply {
        let mut core = self.shared.core.lock();
        let Some(ring) = &core.keyring else { return Reply::Refused("this member has no keys".into()) };
        let mut ring = ring.clone();
        let done = match command {
            KeyCommand::List => Ok(()),
            KeyCommand::Install(key) => read_key(key).and_then(|key| ring.install(key)),
            KeyCommand::Use(key) => read_key(key).and_then(|key| ring.use_key(&key)),
            KeyCommand::Remove(key) => read_key(key).and_then(|key| ring.remove(&key)),
        };
        if let Err(why) = done {
            return Reply::Refused(why);
        }
        let keys: Vec<String> = ring.keys().iter().map(Key::to_base64).collect();
        if *command != KeyCommand::List
            && let Some(path) = &self.shared.keyring_file
            && let Err(error) = replace(path, &serde_json::to_vec(&keys).expect("texts can always be written as JSON"))
        {
            return Reply::Refused(format!("the keys can't be written to `{}`: {error}", path.display()));
        }
        core.keyring = Some(ring);
        Reply::Keys(keys.iter().map(wire::encode).collect())
    }
}

fn read_key(bytes: &[u8]) -> Result<Key, String> {
    let text: String = wire::decode(bytes).map_err(|_| "the key can't be read".to_owned())?;
    Key::from_base64(&text).map_err(|error| error.to_string())
}
