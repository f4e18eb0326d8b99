//! The bank of the saga: somebody else's service, which can be asked again.

use redis::Script;

use crate::connection::Link;
use crate::error::Error;

/// What a bank does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done, now or when the same was asked before.
    Done,
    /// It is not done, and never will be under this key.
    Declined(String),
}

/// A bank, as it is usual to have them: every request carries a key that the customer chose, and
/// the same key has one effect, however often it is asked.
///
/// It lives in Redis, in the hash `P:bank`. Every effect is an entry of the stream `P:bank:ledger`,
/// with the fields `kind` (`charge` or `return`), `key` and `amount`.
#[derive(Debug)]
pub struct Bank {
    accounts: String,
    ledger: String,
    link: Link,
}

impl Bank {
    /// Opens the bank under a prefix.
    ///
    /// # Errors
    /// [`Error::Connect`] if Redis cannot be reached or does not let us in.
    pub async fn connect(redis: &str, prefix: &str) -> Result<Bank, Error> {
        Ok(Bank {
            accounts: format!("{prefix}:bank"),
            ledger: format!("{prefix}:bank:ledger"),
            link: Link::connect(redis).await?,
        })
    }

    /// Charges an amount. More than 1,000 is declined. Asked again under the same key it gives the
    /// same answer, and charges nothing more, whatever the amount.
    ///
    /// # Errors
    /// [`Error::Connect`] or [`Error::Redis`] if Redis is away: whether it was charged is not known
    /// then. Ask again, under the same key.
    pub async fn charge(&self, key: &str, amount: u64) -> Result<Answer, Error> {
        let done: bool = self.ask(CHARGE, key, amount).await?;
        Ok(if done {
            Answer::Done
        } else {
            Answer::Declined("the amount is above 1000".into())
        })
    }

    /// Gives back what was charged under this key. Asked again it gives nothing more back.
    ///
    /// # Errors
    /// [`Error::NeverCharged`] if nothing was, and otherwise as [`charge`](Self::charge).
    pub async fn give_back(&self, key: &str) -> Result<Answer, Error> {
        if self.ask(GIVE_BACK, key, 0).await? {
            Ok(Answer::Done)
        } else {
            Err(Error::NeverCharged(key.to_owned()))
        }
    }

    async fn ask(&self, script: &str, key: &str, amount: u64) -> Result<bool, Error> {
        let script = Script::new(script);
        let mut call = script.key(&self.accounts);
        call.key(&self.ledger).arg(key).arg(amount);
        let mut connection = self.link.connection().await?;
        let answer = call.invoke_async(&mut connection).await;
        self.link.answer(answer).await
    }
}

/// KEYS: accounts, ledger. ARGV: key, amount.
const CHARGE: &str = "
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then return before == 'declined' and 0 or 1 end
if tonumber(ARGV[2]) > 1000 then
  redis.call('HSET', KEYS[1], ARGV[1], 'declined')
  return 0
end
redis.call('XADD', KEYS[2], '*', 'kind', 'charge', 'key', ARGV[1], 'amount', ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], 'charged ' .. ARGV[2])
return 1";

/// KEYS: accounts, ledger. ARGV: key.
const GIVE_BACK: &str = "
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before or before == 'declined' then return 0 end
local amount = string.match(before, '^charged (%d+)$')
if amount then
  redis.call('XADD', KEYS[2], '*', 'kind', 'return', 'key', ARGV[1], 'amount', amount)
  redis.call('HSET', KEYS[1], ARGV[1], 'returned')
end
return 1";
