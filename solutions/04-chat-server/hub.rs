use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::options::Options;

pub struct Hub {}

impl Hub {
    pub async fn start(
        _options: Arc<Options>,
        _over: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Hub {}))
    }
}
