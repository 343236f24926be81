"""Settings: what a user can ask for, from flags, from a file and from Python."""

from foreword.settings.schema import (
    SCRATCH,
    BaseSettings,
    ProgressCall,
    TaskOptions,
    TrainRequest,
    TrainSettings,
)

__all__ = ["SCRATCH", "BaseSettings", "ProgressCall", "TaskOptions", "TrainRequest", "TrainSettings"]
