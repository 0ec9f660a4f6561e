import pytest
from made_up_images import ImagesDataModule
from made_up_training import make_classifier, make_trainer

