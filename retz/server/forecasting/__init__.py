"""When jobs will start and end: a snapshot of the queue, a worker process that runs it forward, the latest answer."""
