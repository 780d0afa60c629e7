"""Progress that stops a training in its midst, as a user or a broken machine does."""


def stop_at(step, error: type[BaseException] | BaseException = KeyboardInterrupt):
    """Interrupts, or fails, when so many steps of training are done."""

    def watch(what, done, total):
        if what.endswith("train: step") and done == step:
            raise error

    return watch
