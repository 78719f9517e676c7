"""The usage that README shows: a loss in a training step, a distance, cached targets."""

import torch

from atmoloss import AtmoDistLoss, atmodist_distance
from atmoloss.data.sample import open_sample

sample = open_sample()  # divergence and vorticity of real winds, s⁻¹; your own data: atmoloss.data.open_fields
fields = torch.from_numpy(sample.to_array().values).transpose(0, 1)[..., :64]  # (27, 2, 64, 64)
network = torch.nn.Conv2d(2, 2, 5, padding=2)  # in place of yours
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
loss = AtmoDistLoss()


def predict(fields: torch.Tensor) -> torch.Tensor:
    """The network works on numbers of order 1, and the loss takes physical units."""
    return loss.normalization.inverse(network(loss.normalization(fields)))


# A training step.
value = loss(predict(fields[:8]), fields[1:9])
value.backward()
optimizer.step()

# How far apart are these fields and those 6 and 48 hours later?
for hours in (6, 48):
    print(f"{hours} h:", atmodist_distance(fields[:4], fields[hours // 6 :][:4]).tolist())

# A target that comes back every epoch is encoded once.
cached = loss.features(fields[1:9])
print("loss:", loss(predict(fields[:8]), cached).item())
