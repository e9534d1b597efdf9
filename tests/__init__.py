"""The tests of livechat; each folder mirrors a package, fakes and helpers are in `support`."""

from hypothesis import settings

# On a busy machine any example may stall; no test here depends on how long something takes.
settings.register_profile("livechat", deadline=None)
settings.load_profile("livechat")
