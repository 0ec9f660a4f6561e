import torch
from made_up_training import make_classifier

from l2nnn_lightning.nn.precision import full_precision


def test_autocast_is_off_inside_and_back_on_outside():
    a = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(a.device):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16


def test_weights_of_half_precision_prove_nothing():
    model = make_classifier(hard=True)
    image = torch.rand(3, *model.image_shape)
    assert float(model.certify(image).radius.max()) > 0
    assert float(model.bfloat16().certify(image).radius.max()) == 0
