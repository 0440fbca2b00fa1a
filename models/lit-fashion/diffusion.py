"""The 1000-step linear-beta diffusion of DiT: noising, the loss of noise and variance, and a few-step sampler."""

import numpy as np
import torch

STEPS = 1000


class Diffusion:
    def __init__(self, snr_limit=5):
        self.snr_limit = snr_limit
        beta = np.linspace(1e-4, 2e-2, STEPS, dtype=np.float64)
        alpha_bar = np.cumprod(1 - beta)
        previous = np.append(1.0, alpha_bar[:-1])
        variance = beta * (1 - previous) / (1 - alpha_bar)
        log_variance = np.log(np.append(variance[1], variance[1:]))
        as_float = lambda x: torch.from_numpy(x).float()
        self.alpha_bar = as_float(alpha_bar)
        self.log_beta = as_float(np.log(beta))
        self.log_variance = as_float(log_variance)
        self.mean_x0 = as_float(beta * np.sqrt(previous) / (1 - alpha_bar))
        self.mean_xt = as_float((1 - previous) * np.sqrt(1 - beta) / (1 - alpha_bar))

    @staticmethod
    def _at(table, t):
        return table[t][:, None, None, None]

    def noised(self, x0, t, noise):
        a = self._at(self.alpha_bar, t)
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    def posterior(self, x0, xt, t):
        return self._at(self.mean_x0, t) * x0 + self._at(self.mean_xt, t) * xt

    def predicted_x0(self, xt, t, noise):
        a = self._at(self.alpha_bar, t)
        return (xt - (1 - a).sqrt() * noise) / a.sqrt()

    def model_log_variance(self, position, t):
        low, high = self._at(self.log_variance, t), self._at(self.log_beta, t)
        fraction = (position + 1) / 2
        return fraction * high + (1 - fraction) * low

    def variance_loss(self, x0, xt, t, noise, position):
        """KL of the true posterior to the model's, in bits; the mean is detached, so only the variance learns."""
        mean_true = self.posterior(x0, xt, t)
        mean = self.posterior(self.predicted_x0(xt, t, noise.detach()).clamp(-1, 1), xt, t)
        lv_true, lv = self._at(self.log_variance, t), self.model_log_variance(position, t)
        kl = 0.5 * (-1 + lv - lv_true + (lv_true - lv).exp() + (mean_true - mean) ** 2 * (-lv).exp())
        return kl.mean(dim=(1, 2, 3)) / np.log(2)

    def noise_weight(self, t):
        """min-SNR (arXiv 2303.09556): less weight where almost no noise is left, whose loss is large, hard to lower and
        says little about the picture. Without a limit (0), all weigh the same."""
        a = self.alpha_bar[t]
        return (self.snr_limit * (1 - a) / a).clamp(max=1) if self.snr_limit else torch.ones_like(a)

    def loss(self, output, x0, xt, t, noise):
        """What to minimise, and for the curve the mean losses of noise (unweighted) and variance."""
        predicted, position = output.chunk(2, dim=1)
        mse = ((predicted - noise) ** 2).mean(dim=(1, 2, 3))
        variance = self.variance_loss(x0, xt, t, predicted, position).mean()
        return (self.noise_weight(t) * mse).mean() + variance, mse.mean().item(), variance.item()

    @torch.no_grad()
    def sample_ddim(self, model, labels, noise, steps, guidance, null_class):
        """Deterministic DDIM, "leading" spacing, guidance on the noise."""
        x = noise
        stride = STEPS // steps
        for i in reversed(range(steps)):
            t = torch.full((len(x),), i * stride)
            out = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([labels, torch.full_like(labels, null_class)]))
            with_class, without = out[:, : x.shape[1]].chunk(2)
            eps = without + guidance * (with_class - without)
            a = self.alpha_bar[i * stride]
            before = self.alpha_bar[(i - 1) * stride] if i > 0 else torch.tensor(1.0)
            x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
            x = before.sqrt() * x0 + (1 - before).sqrt() * eps
        return x
