"""The training examples next to samples."""

import numpy as np
import torch
from PIL import Image

from datamodules import Digits, Toy
from zoo.evaluation import draw_neighbors, draw_samples, nearest_training_examples
from zoo.models import Memorizer


def test_the_nearest_one_of_all():
    """Of levels and of points, against distances to every training example."""
    for data in (Digits(), Toy("ring", size=500)):
        data.setup("fit")
        torch.manual_seed(0)
        x = torch.randint(17, (70, 1, 8, 8)) if data.spec.is_image else torch.randn(70, 2)
        found, distances = nearest_training_examples(x, data)
        train = torch.cat([batch.x for batch in data.train_dataloader()]).flatten(1).double()
        every = (x.flatten(1).double()[:, None] - train[None]).norm(dim=2)
        assert distances.allclose(every.min(dim=1).values)
        assert found.shape == x.shape
        assert (found.flatten(1).double() - x.flatten(1).double()).norm(dim=1).allclose(distances)


def test_those_of_a_memorizer_are_its_samples(tmp_path):
    data = Digits()
    data.setup("fit")
    model = Memorizer(data.spec, scale=0.01)
    model.initialize(torch.cat([batch.x for batch in data.train_dataloader()]))
    drawn, real = draw_samples(model, data, tmp_path, 9)
    path = draw_neighbors(model, data, tmp_path, 9)
    pixels, copied = np.asarray(Image.open(path)), np.asarray(Image.open(drawn))
    assert path.name == "evaluation_neighbors.png"
    assert (pixels[-len(copied) :] == copied).all(), "the same grid, below a line that says what it is"
    assert not (pixels[-len(copied) :] == np.asarray(Image.open(real))).all()
