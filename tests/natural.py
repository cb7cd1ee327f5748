"""Right answers as different people write them, for every task of every notebook.

``WORK[notebook][who]`` is one student: cell id -> the code that stands in the place of ``# YOUR CODE HERE``. An id with
``=`` behind it replaces the whole cell, one with ``+`` is a cell of the student's own behind that one.

*numpy* counts in arrays, *tensors* in 0-d and index tensors, *loops* in lists and plain Python; *library* lets the
library do it and takes its masks; *permanent* zeroes in place or makes masks permanent; *terse* writes one line;
*cautious* tries wrong ways first, asserts, prints and adds cells.
"""

WORK: dict[str, dict[str, dict[str, str]]] = {}

WORK["01_training"] = {
    "numpy": {
        "nb01-009": """
            import numpy as np

            sizes = np.array([np.prod(layer.weight.shape) for layer in labkit.prunable_layers(untrained).values()])
            work = dict(zip(labkit.prunable_layers(untrained), sizes * np.array([28, 14, 5, 1]) ** 2))
        """,
        "nb01-013": "prediction = np.float32(-np.log(1 / 10))",
        "nb01-020": """
            optimizer = torch.optim.SGD(CNN_MNIST.parameters(), lr=LEARNING_RATE)
            scheduler = LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=EPOCHS * len(train_loader))
            CNN_MNIST, history = labkit.test_or_train(CNN_MNIST, train_loader, validation_loader, loss_fn, metric,
                                                      optimizer, 1, EPOCHS, device, "both", None, scheduler, unfinished)
            history = {key: np.array(values) for key, values in history.items()}
        """,
    },
    "tensors": {
        "nb01-009": """
            sides = torch.tensor([28, 14, 5, 1])
            numbers = torch.tensor([getattr(untrained, n).weight.numel() for n in ("conv1", "conv2", "conv3", "fc")])
            counts = numbers * sides.square()
            work["fc"], work["conv3"], work["conv2"], work["conv1"] = counts.flip(0)
        """,
        "nb01-013": "prediction = torch.tensor(0.5)",
        "nb01-020": """
            opt = torch.optim.SGD(CNN_MNIST.parameters(), lr=LEARNING_RATE)
            decay = torch.optim.lr_scheduler.LambdaLR(opt, lambda step: 1 - step / (EPOCHS * len(train_loader)))
            CNN_MNIST, history = labkit.test_or_train(
                CNN_MNIST, train_loader, None, loss_fn, metric, opt, 1, EPOCHS, device, mode="train", scheduler=decay
            )
            _, checked = labkit.test_or_train(
                CNN_MNIST, None, validation_loader, loss_fn, metric, None, 1, 1, device, mode="test"
            )
            history["loss_test"], history["acc_test"] = checked["loss_test"], checked["acc_test"]
        """,
    },
    "loops": {
        "nb01-009": """
            work = []
            for inputs, outputs, side in ((1, 32, 28), (32, 64, 14), (64, 128, 5)):
                work.append(inputs * outputs * 9 * side * side)
            work.append(5 * 5 * 128 * 10)
        """,
        "nb01-013": "prediction = 0",
        "nb01-020": """
            opt = torch.optim.Adam(CNN_MNIST.parameters(), lr=0.002)
            history = {"loss_train": [], "acc_train": []}
            for epoch in range(EPOCHS):
                CNN_MNIST.train()
                for X, y in train_loader:
                    X, y = X.to(device), y.to(device)
                    logits = CNN_MNIST(X)
                    loss = loss_fn(logits, y)
                    opt.zero_grad()
                    loss.backward()
                    opt.step()
                history["loss_train"].append(loss)
                history["acc_train"].append((logits.argmax(1) == y).float().mean())
        """,
    },
    "library": {
        "nb01-009": "work = {cost.name: cost.multiply_adds for cost in labkit.multiply_adds(untrained)}",
        "nb01-013": "prediction = 1.4612",
        "nb01-020": """
            optimizer = torch.optim.SGD(CNN_MNIST.parameters(), LEARNING_RATE)
            scheduler = LinearLR(optimizer, 1, 0, EPOCHS * len(train_loader))
            history = labkit.test_or_train(CNN_MNIST, train_loader, validation_loader, loss_fn, metric, optimizer, 1,
                                           EPOCHS, device, mode="both", scheduler=scheduler)
        """,
    },
    "permanent": {  # trains in place, and keeps no history
        "nb01-009": """
            def count(name):
                def hook(layer, inputs, output):
                    work[name] = layer.weight.numel() * output[0].numel() // len(layer.weight)
                return hook

            hooks = [layer.register_forward_hook(count(name))
                     for name, layer in labkit.prunable_layers(untrained).items()]
            with torch.no_grad():
                untrained(X[:1])
            for hook in hooks:
                hook.remove()
        """,
        "nb01-013": "prediction = -torch.log_softmax(torch.tensor([1.0] + 9 * [0.0]), dim=0)[:1].numpy()",
        "nb01-020": """
            optimizer = torch.optim.SGD(CNN_MNIST.parameters(), lr=0.03, momentum=0.9)
            scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=EPOCHS * len(train_loader))
            for _ in range(EPOCHS):
                labkit.train_one_epoch(CNN_MNIST, train_loader, loss_fn, metric, optimizer, 1, device, scheduler)
        """,
    },
    "terse": {
        "nb01-009": "work = torch.tensor([288, 18_432, 73_728, 32_000]) * torch.tensor([28, 14, 5, 1]) ** 2",
        "nb01-013": "prediction = round(sum(map(lambda p: -p, [0, 0])), 3)",
        "nb01-020": """
            history |= labkit.test_or_train(CNN_MNIST, train_loader, validation_loader, loss_fn, metric,
                (optimizer := torch.optim.SGD(CNN_MNIST.parameters(), lr=0.1)), 1, 2 * EPOCHS, device, "both", 0.93,
                LinearLR(optimizer, 1, 0, 2 * EPOCHS * len(train_loader)))[1]
        """,
    },
    "cautious": {
        "nb01-009": """
            # first try: weights only
            work = {row.name: row.weights for row in labkit.sparsity_report(untrained)}
            print("not yet:", work)
            X_after = {"conv1": (28, 28), "conv2": (14, 14), "conv3": (5, 5), "fc": (1, 1)}
            for layer, (height, width) in X_after.items():
                work[layer] *= height * width
            assert set(work) == {"conv1", "conv2", "conv3", "fc"}
            work["together"] = sum(work.values())
            assert work["together"] == 5_713_664
        """,
        "nb01-009+": "print(work)\nassert len(work) >= 4",
        "nb01-013": "prediction = None\nprediction = 0.7",
        "nb01-020": """
            for epochs in (1, EPOCHS + 1):  # first one epoch, to see whether it runs at all
                labkit.set_seed(SEED)
                CNN_MNIST = CNN((1, 28, 28), 10).to(device)
                optimizer = torch.optim.SGD(CNN_MNIST.parameters(), lr=LEARNING_RATE)
                scheduler = LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * len(train_loader))
                CNN_MNIST, history = labkit.test_or_train(
                    CNN_MNIST, train_loader, validation_loader, loss_fn, metric, optimizer, 1, epochs, device,
                    mode="both", scheduler=scheduler, checkpoint=unfinished,
                )
                print(epochs, history["acc_test"])
            assert history["acc_test"][-1] > 0.9
        """,
        "nb01-020+": "help(labkit.test_or_train)",
    },
}

WORK["02_random_pruning"] = {
    "numpy": {
        "nb02-006": """
            import numpy as np

            dice = np.random.default_rng(SEED + 1)
            mask_by_hand = np.ones(weight.numel())
            mask_by_hand[dice.choice(weight.numel(), weight.numel() // 4, replace=False)] = 0
            mask_by_hand = mask_by_hand.reshape(weight.shape)
        """,
        "nb02-008": """
            dice = np.random.default_rng(seed)
            for layer in (network.conv1, network.conv2, network.conv3):
                keep = np.ones(layer.weight.numel(), dtype=np.float32)
                keep[: round(AMOUNT * len(keep))] = 0
                dice.shuffle(keep)
                prune.custom_from_mask(layer, "weight", torch.from_numpy(keep.reshape(layer.weight.shape)))
        """,
        "nb02-014": "prediction = np.float64(0.6)",
    },
    "tensors": {
        "nb02-006": """
            gone = torch.randperm(weight.numel())[: weight.numel() // 4]
            mask_by_hand = torch.ones(weight.numel(), dtype=torch.long).index_fill(0, gone, 0).view_as(weight)
        """,
        "nb02-008": """
            for layer in [network.conv1, network.conv2, network.conv3]:
                gone = torch.randperm(layer.weight.numel())[: torch.tensor(AMOUNT * layer.weight.numel()).int()]
                mask = torch.ones(layer.weight.numel(), dtype=torch.int)
                mask[gone] = 0
                prune.custom_from_mask(layer, "weight", mask.view_as(layer.weight))
        """,
        "nb02-014": "prediction = torch.tensor([0.5], dtype=torch.double)",
    },
    "loops": {
        "nb02-006": """
            import random

            random.seed(SEED + 1)
            places = [(c, i, j) for c in range(32) for i in range(3) for j in range(3)]
            for c, i, j in random.sample(places, 72):
                mask_by_hand[c, 0, i, j] = 0
            mask_by_hand = mask_by_hand.int().tolist()
        """,
        "nb02-008": """
            for name in CONVOLUTIONS:
                prune.RandomUnstructured.apply(getattr(network, name), "weight", AMOUNT)
        """,
        "nb02-014": "prediction = 1",
    },
    "library": {
        "nb02-006": """
            copy = labkit.clone(CNN_MNIST)
            prune.random_unstructured(copy.conv1, name="weight", amount=72)
            mask_by_hand = copy.conv1.weight_mask
        """,
        "nb02-008": """
            for layer in (network.conv1, network.conv2, network.conv3):
                prune.random_unstructured(layer, "weight", AMOUNT)
        """,
        "nb02-014": "prediction = 0.75",
    },
    "permanent": {
        "nb02-006": """
            chosen = torch.multinomial(torch.ones(288), 72)
            mask_by_hand = ~torch.isin(torch.arange(288), chosen).view(32, 1, 3, 3)
        """,
        "nb02-008": """
            with torch.no_grad():
                for layer in (network.conv1, network.conv2, network.conv3):
                    lottery = torch.rand_like(layer.weight)
                    layer.weight[lottery <= lottery.flatten().kthvalue(layer.weight.numel() // 4).values] = 0
        """,
        "nb02-014": "prediction = torch.tensor(0.9).numpy()",
    },
    "terse": {
        "nb02-006": "mask_by_hand = (r := torch.rand_like(weight)) > r.quantile(AMOUNT)",
        "nb02-008": """
            [prune.remove(prune.random_unstructured(getattr(network, c), "weight", AMOUNT), "weight") for c in CONVOLUTIONS]
        """,
        "nb02-014": "prediction = (lambda keep: keep**3)(1 - AMOUNT)",
    },
    "cautious": {
        "nb02-006": """
            mask_by_hand = (torch.rand_like(weight) > AMOUNT).float()  # a coin each: about a quarter
            print("with coins:", int((mask_by_hand == 0).sum()))
            mask_by_hand = torch.ones_like(weight)
            while (mask_by_hand == 0).sum() < 72:
                where = tuple(torch.randint(size, ()).item() for size in weight.shape)
                mask_by_hand[where] = 0
            assert mask_by_hand.sum() == 216
            mask_by_hand = [row for row in mask_by_hand]
        """,
        "nb02-008": """
            prune.random_unstructured(network.conv1, name="weight", amount=1)  # one weight?
            prune.remove(network.conv1, "weight")
            network = labkit.clone(CNN_MNIST)
            labkit.set_seed(seed)
            for name in CONVOLUTIONS:
                layer = getattr(network, name)
                prune.random_unstructured(layer, name="weight", amount=AMOUNT)
                assert int((layer.weight == 0).sum()) == layer.weight.numel() // 4, name
            assert not hasattr(network.fc, "weight_mask")
        """,
        "nb02-act+": "dir(prune)\nassert labkit.sparsity(prune_at_random(3), CONVOLUTIONS) == 0.25",
        "nb02-014": "prediction = 0.4",
    },
}

WORK["03_l1_pruning"] = {
    "numpy": {
        "nb03-004": """
            import numpy as np

            sizes = {name: np.abs(weight.numpy()) for name, weight in weights.items()}
            for name, size in sizes.items():
                k = size.size // 4
                thresholds[name] = np.partition(size.ravel(), k - 1)[k - 1]
        """,
        "nb03-007": "masks_by_hand = {name: size > thresholds[name] for name, size in sizes.items()}",
        "nb03-act": """
            size = np.abs(layer.weight.detach().cpu().numpy())
            keep = np.ones(size.size)
            keep[np.argsort(size, axis=None)[: int(round(amount * size.size))]] = 0
            prune.custom_from_mask(layer, "weight", torch.from_numpy(keep.reshape(size.shape)))
        """,
        "nb03-011": "prediction = np.float16(0.9)",
    },
    "tensors": {
        "nb03-004": """
            for name, weight in weights.items():
                thresholds[name] = weight.abs().flatten().quantile(AMOUNT)
        """,
        "nb03-007": """
            for name in reversed(CONVOLUTIONS):
                smallest = weights[name].abs().flatten().topk(weights[name].numel() // 4, largest=False).indices
                masks_by_hand[name] = torch.ones(weights[name].numel()).scatter(0, smallest, 0.0).view_as(weights[name])
        """,
        "nb03-act": """
            count = torch.tensor(amount * layer.weight.numel()).round().int()
            smallest = layer.weight.abs().flatten().topk(count, largest=False).indices
            mask = torch.ones_like(layer.weight).flatten().index_fill(0, smallest, 0)
            prune.custom_from_mask(layer, name="weight", mask=mask.view_as(layer.weight))
        """,
        "nb03-011": "prediction = torch.tensor(0.93, dtype=torch.half)",
    },
    "loops": {
        "nb03-004": """
            for name in CONVOLUTIONS:
                values = sorted(abs(value) for value in weights[name].flatten().tolist())
                thresholds[name] = values[int(AMOUNT * len(values)) - 1]
        """,
        "nb03-007": """
            masks_by_hand = []
            for name in CONVOLUTIONS:
                channels = []
                for channel in weights[name]:
                    channels.append(channel.abs() > thresholds[name])
                masks_by_hand.append(channels)
        """,
        "nb03-act": """
            values = sorted(abs(value) for value in layer.weight.flatten().tolist())
            limit = values[int(amount * len(values)) - 1]
            mask = torch.zeros_like(layer.weight)
            for c in range(len(mask)):
                mask[c] = layer.weight[c].abs() > limit
            prune.custom_from_mask(layer, "weight", mask)
        """,
        "nb03-011": "prediction = 1",
    },
    "library": {
        "nb03-004": """
            pruned = labkit.clone(CNN_MNIST)
            for name in CONVOLUTIONS:
                layer = prune.l1_unstructured(getattr(pruned, name), "weight", AMOUNT)
                thresholds[name] = layer.weight_orig[layer.weight_mask == 0].abs().max()
        """,
        "nb03-007": "masks_by_hand = {name: getattr(pruned, name).weight_mask for name in CONVOLUTIONS}",
        "nb03-act": "return prune.L1Unstructured.apply(layer, 'weight', amount)",
        "nb03-011": "prediction = 0.99",
    },
    "permanent": {
        "nb03-004": """
            for name, weight in weights.items():
                thresholds[name] = float(weight.abs().view(-1).sort()[0][weight.numel() // 4 - 1])
        """,
        "nb03-007": """
            for name, mask in masks_by_hand.items():
                mask[weights[name].abs() <= thresholds[name]] = 0
                masks_by_hand[name] = mask.to(torch.int8)
        """,
        "nb03-act": """
            with torch.no_grad():
                size = layer.weight.abs()
                layer.weight[size <= size.flatten().kthvalue(round(amount * size.numel())).values] = 0
        """,
        "nb03-011": "prediction = 0.5",
    },
    "terse": {
        "nb03-004": "thresholds |= {n: w.abs().flatten().sort().values[w.numel() // 4 - 1] for n, w in weights.items()}",
        "nb03-007": """
            rank = lambda w: w.abs().flatten().argsort().argsort().view_as(w) / w.numel()
            masks_by_hand = tuple((rank(w) >= AMOUNT).double() for w in weights.values())
        """,
        "nb03-act": """
            prune.remove(prune.custom_from_mask(layer, "weight", rank(layer.weight) >= amount), "weight")
        """,
        "nb03-011": "prediction, *_ = 0.8, 0.9",
    },
    "cautious": {  # without the task that gives no points
        "nb03-007": """
            masks_by_hand = {name: (weight > 0.01).float() for name, weight in weights.items()}  # no: the sign
            for name, mask in masks_by_hand.items():
                print(name, "masked:", int((mask == 0).sum()), "of", mask.numel())
            thresholds_here = {name: weight.abs().flatten().kthvalue(weight.numel() // 4)[0]
                               for name, weight in weights.items()}
            for name, weight in weights.items():
                masks_by_hand[name] = torch.where(weight.abs() > thresholds_here[name], 1, 0)
                assert (masks_by_hand[name] == 0).sum() == weight.numel() // 4
        """,
        "nb03-act": """
            if not 0 < amount < 1:
                raise ValueError(f"amount is {amount}")
            prune.l1_unstructured(layer, name="weight", amount=amount)
            zeros = int((layer.weight == 0).sum())
            assert zeros == round(amount * layer.weight.numel()), zeros
        """,
        "nb03-act+": "test = torch.nn.Linear(10, 10)\nprune_smallest(test, 0.5)\nprint(test.weight)",
        "nb03-011": "prediction = 0.97",
    },
}

WORK["04_structured_pruning"] = {
    "numpy": {
        "nb04-004": """
            import numpy as np

            for name, weight in weights.items():
                norms[name] = np.linalg.norm(weight.numpy().reshape(len(weight), -1), axis=1)
                doomed[name] = np.argsort(norms[name])[: len(weight) // 8]
        """,
        "nb04-008": """
            for name, weight in weights.items():
                masks_by_hand[name] = np.ones(weight.shape, dtype=bool)
                masks_by_hand[name][doomed[name]] = False
        """,
        "nb04-act": """
            w = layer.weight.detach().numpy()
            length = np.sqrt((w.reshape(len(w), -1) ** 2).sum(axis=1))
            keep = np.ones_like(w)
            keep[length.argsort()[: round(amount * len(w))]] = 0
            prune.custom_from_mask(layer, "weight", torch.tensor(keep))
        """,
        "nb04-015": "prediction = np.array(0.95)",
    },
    "tensors": {
        "nb04-004": """
            for name, weight in weights.items():
                norms[name] = torch.linalg.vector_norm(weight, dim=(1, 2, 3))
                doomed[name] = norms[name].topk(len(weight) // 8, largest=False).indices
        """,
        "nb04-008": """
            for name, weight in weights.items():
                masks_by_hand[name] = torch.ones_like(weight).index_fill(0, doomed[name], 0)
        """,
        "nb04-act": """
            length = layer.weight.detach().pow(2).sum(dim=(1, 2, 3)).sqrt()
            limit = length.kthvalue(round(amount * len(length))).values
            prune.custom_from_mask(layer, "weight", (length > limit)[:, None, None, None] * torch.ones_like(layer.weight))
        """,
        "nb04-015": "prediction = torch.tensor(1)",
    },
    "loops": {
        "nb04-004": """
            for name in CONVOLUTIONS:
                norms[name] = []
                for channel in weights[name]:
                    norms[name].append(sum(w * w for w in channel.flatten().tolist()) ** 0.5)
                limit = sorted(norms[name])[len(norms[name]) // 8 - 1]
                doomed[name] = {c for c, norm in enumerate(norms[name]) if norm <= limit}
        """,
        "nb04-008": """
            masks_by_hand = {}
            for name in ("conv3", "conv2", "conv1"):
                masks_by_hand[name] = []
                for c, channel in enumerate(weights[name]):
                    masks_by_hand[name].append(torch.zeros_like(channel) if c in doomed[name] else torch.ones_like(channel))
        """,
        "nb04-act": """
            lengths = [channel.norm().item() for channel in layer.weight]
            order = sorted(range(len(lengths)), key=lambda c: lengths[c])
            mask = torch.ones_like(layer.weight)
            for c in order[: round(amount * len(order))]:
                mask[c] = 0
            prune.custom_from_mask(layer, "weight", mask)
        """,
        "nb04-015": "prediction = 0",
    },
    "library": {
        "nb04-004": """
            pruned = labkit.clone(CNN_MNIST)
            for name in CONVOLUTIONS:
                prune.ln_structured(getattr(pruned, name), "weight", AMOUNT, n=2, dim=0)
                norms[name] = weights[name].norm(dim=(1, 2, 3))
                doomed[name] = labkit.zero_channels(getattr(pruned, name))
        """,
        "nb04-008": "masks_by_hand = {name: getattr(pruned, name).weight_mask for name in CONVOLUTIONS}",
        "nb04-act": "prune.LnStructured.apply(layer, 'weight', amount, 2, 0)",
        "nb04-015": "prediction = 0.9",
    },
    "permanent": {
        "nb04-004": """
            for name, weight in weights.items():
                norms[name] = weight.reshape(len(weight), -1).norm(dim=1, dtype=torch.double)
                doomed[name] = norms[name].sort().indices[: len(weight) // 8].sort().values.numpy()
        """,
        "nb04-008": """
            for name, mask in masks_by_hand.items():
                mask[torch.from_numpy(doomed[name])] = 0
                masks_by_hand[name] = mask.byte()
        """,
        "nb04-act": """
            with torch.no_grad():
                least = layer.weight.flatten(1).norm(dim=1).argsort()[: int(amount * len(layer.weight))]
                layer.weight[least] = 0.0
        """,
        "nb04-015": "prediction = 0.125",
    },
    "terse": {
        "nb04-004": """
            norms = {n: w.flatten(1).norm(dim=1) for n, w in weights.items()}
            doomed = {n: [*map(int, v.argsort()[: len(v) // 8])] for n, v in norms.items()}
        """,
        "nb04-008": """
            masks_by_hand = tuple((v > v.sort().values[len(v) // 8 - 1]).view(-1, 1, 1, 1).expand_as(weights[n])
                                  for n, v in norms.items())
        """,
        "nb04-act": "prune.remove(prune.ln_structured(layer, 'weight', amount, 2, 0), 'weight')",
        "nb04-015": "prediction = 1 - AMOUNT",
    },
    "cautious": {  # without the task that gives no points
        "nb04-008": """
            by_hand = {}
            for name, weight in weights.items():
                lengths = weight.square().sum((1, 2, 3)).sqrt()
                order = lengths.argsort()
                wrong = torch.ones_like(weight)
                wrong[:, order[: len(order) // 8] % weight.shape[1]] = 0  # no, these are inputs
                by_hand[name] = torch.ones_like(weight)
                by_hand[name][order[: len(order) // 8]] = 0
                print(name, order[: len(order) // 8].tolist(), "not", int((wrong == 0).sum()))
            masks_by_hand = by_hand
            assert {name: int((mask == 0).sum()) for name, mask in by_hand.items()}["conv1"] == 36
        """,
        "nb04-act": """
            assert 0 <= amount <= 1
            before = layer.weight.detach().clone()
            prune.ln_structured(layer, name="weight", amount=amount, n=2, dim=0)
            gone = labkit.zero_channels(layer)
            stay = [c for c in range(len(before)) if c not in gone]
            if len(gone):
                lengths = before.flatten(1).norm(dim=1)
                assert lengths[gone].max() <= lengths[stay].min()
        """,
        "nb04-act+": "print(CNN_MNIST_STRUCT.conv1.weight_mask.flatten(1).sum(dim=1))",
        "nb04-015": "prediction = 0.96",
    },
}

OWN_EPOCH = """
            opt = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            for number, (X, y) in enumerate(train_generator):
                opt.param_groups[0]["lr"] = LEARNING_RATE * (1 - number / len(train_generator))
                opt.zero_grad()
                criterion(model(X.to(device)), y.to(device)).backward()
                opt.step()
"""
ITS_EPOCH = """
            optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(train_generator))
            train_one_epoch(model, train_generator, criterion, metric, optimizer, 1, device, scheduler)
"""
# Masks that no layer holds: what is zero stays zero by hand.
WITHOUT_MASKS = """
            opt = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            decay = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.0, len(train_generator))
            model.train()
            for X, y in train_generator:
                loss = criterion(model(X.to(device)), y.to(device))
                opt.zero_grad()
                loss.backward()
                opt.step()
                decay.step()
                with torch.no_grad():
                    for name, zero in gone.items():
                        getattr(model, name).weight[zero] = 0
"""

WORK["05_iterative_pruning"] = {
    "numpy": {
        "nb05-004": "import numpy as np\n\nprediction = 100 * (1 - np.prod(np.full(ROUNDS, 1 - STEP)))",
        "nb05-007": """
            size, mask_by_hand = np.abs(weight.numpy()), np.ones(weight.shape)
            for _ in range(2):
                left = np.sort(size[mask_by_hand == 1])
                mask_by_hand[size <= left[round(STEP * left.size) - 1]] = 0
        """,
        "nb05-011": """
            for name in CONVOLUTIONS:
                layer = getattr(model, name)
                w = np.abs(labkit.effective_weight(layer).numpy())
                mask = (w > 0).astype(np.float32)
                places = np.flatnonzero(mask)
                smallest = places[np.argsort(w.ravel()[places])[: round(step * places.size)]]
                mask.ravel()[smallest] = 0
                prune.custom_from_mask(layer, "weight", torch.from_numpy(mask))
        """
        + ITS_EPOCH,
    },
    "tensors": {
        "nb05-004": "prediction = 100 - 100 * torch.tensor(0.9) ** 10",
        "nb05-007": """
            alive = torch.arange(weight.numel())
            for _ in range(2):
                order = weight.flatten()[alive].abs().argsort(descending=True)
                alive = alive[order[: len(alive) - round(STEP * len(alive))]]
            mask_by_hand = torch.zeros(weight.numel(), dtype=torch.bool).index_fill(0, alive, True).view_as(weight)
        """,
        "nb05-011": """
            for layer in (model.conv1, model.conv2, model.conv3):
                prune.l1_unstructured(layer, "weight", step)
        """
        + OWN_EPOCH,
    },
    "loops": {
        "nb05-004": "left = 1\nfor _ in range(10):\n    left *= 0.9\nprediction = int(100 * (1 - left))",
        "nb05-007": """
            values = {place: abs(value) for place, value in enumerate(weight.flatten().tolist())}
            for _ in range(2):
                for place in sorted(values, key=values.get)[: int(STEP * len(values))]:
                    del values[place]
            mask_by_hand = torch.tensor([place in values for place in range(weight.numel())]).view(64, 32, 3, 3).tolist()
        """,
        "nb05-011": """
            for name in CONVOLUTIONS:
                layer = getattr(model, name)
                alive = labkit.effective_weight(layer) != 0
                sizes = sorted(labkit.effective_weight(layer)[alive].abs().tolist())
                limit = sizes[int(step * len(sizes)) - 1]  # rounds down
                prune.custom_from_mask(layer, "weight", alive & (layer.weight.abs() > limit))
            adam = torch.optim.Adam(model.parameters(), lr=0.001)
            train_one_epoch(model, train_generator, criterion, metric, adam, 1, device)
        """,
    },
    "library": {
        "nb05-004": "prediction = 65.13",
        "nb05-007": """
            copy = labkit.clone(CNN_MNIST)
            prune.l1_unstructured(copy.conv2, "weight", STEP)
            prune.l1_unstructured(copy.conv2, "weight", STEP)
            mask_by_hand = copy.conv2.weight_mask.bool()
        """,
        "nb05-011": """
            for name in CONVOLUTIONS:
                prune.l1_unstructured(getattr(model, name), "weight", step)
            optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, len(train_generator))
            model, _ = labkit.test_or_train(
                model, train_generator, None, criterion, metric, optimizer, 1, 1, device, scheduler=scheduler
            )
        """,
    },
    "permanent": {
        "nb05-004": "prediction = 100",
        "nb05-007": """
            for _ in range(2):
                survivors = (weight * mask_by_hand).abs()
                survivors[mask_by_hand == 0] = float("inf")
                smallest = survivors.flatten().topk(round(STEP * int(mask_by_hand.sum())), largest=False).indices
                mask_by_hand.view(-1)[smallest] = 0
        """,
        "nb05-011": """
            gone = {}
            with torch.no_grad():
                for name in CONVOLUTIONS:
                    size = getattr(model, name).weight.abs()
                    left = size[size > 0]
                    gone[name] = size <= left.kthvalue(round(step * len(left))).values
                    getattr(model, name).weight[gone[name]] = 0
        """
        + WITHOUT_MASKS,
    },
    "terse": {
        "nb05-004": "prediction = 100 * (1 - (1 - STEP) ** ROUNDS)",
        "nb05-007": """
            from functools import reduce

            cut = lambda m, _: m & (weight.abs() > (s := weight[m].abs()).kthvalue(round(STEP * len(s))).values)
            mask_by_hand = reduce(cut, "ab", mask_by_hand.bool())
        """,
        "nb05-011": """
            [prune.L1Unstructured.apply(getattr(model, name), "weight", step) for name in CONVOLUTIONS]
            decay = torch.optim.lr_scheduler.LambdaLR(opt := torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
                                                      lambda i: 1 - i / len(train_generator))
            train_one_epoch(model, train_generator, criterion, metric, opt, 1, device, decay, title="round")
        """,
    },
    "cautious": {
        "nb05-004": "prediction = 100  # no\nprediction = 65.0",
        "nb05-007": """
            threshold = weight.abs().flatten().kthvalue(round(0.2 * weight.numel())).values
            mask_by_hand = (weight.abs() > threshold).float()  # 20 % at once
            print("too many:", int((mask_by_hand == 0).sum()))
            mask_by_hand = torch.ones_like(weight)
            for round_number in (1, 2):
                left = weight.abs()[mask_by_hand.bool()]
                threshold = left.kthvalue(round(STEP * left.numel())).values.item()
                mask_by_hand[weight.abs() <= threshold] = 0
                print("round", round_number, "threshold", threshold, "masked", int((mask_by_hand == 0).sum()))
            assert int((mask_by_hand == 0).sum()) == 3_502
        """,
        "nb05-011": """
            before = labkit.sparsity(model, CONVOLUTIONS)
            for layer in (model.conv1, model.conv2, model.conv3):
                prune.l1_unstructured(layer, name="weight", amount=step)
            after = labkit.sparsity(model, CONVOLUTIONS)
            assert abs((1 - after) / (1 - before) - (1 - step)) < 0.01
            start = model.conv2.weight_orig.detach().clone()
        """
        + ITS_EPOCH
        + """
            assert not torch.equal(start, model.conv2.weight_orig), "nothing was trained"
            assert labkit.sparsity(model, CONVOLUTIONS) == after
        """,
        "nb05-013+": "again, _ = prune_and_train(CNN_MNIST, half, validation_loader, loss_fn, metric)\nhalf.epoch = 0",
    },
}

WORK["06_global_pruning"] = {
    "numpy": {
        "nb06-008": "import numpy as np\n\nprediction = np.int64(10)",
        "nb06-004": """
            sizes = {name: np.abs(weight.numpy()) for name, weight in weights.items()}
            threshold = np.quantile(np.concatenate([size.ravel() for size in sizes.values()]), 0.25)
            masks_by_hand = {name: (size > threshold).astype(int) for name, size in sizes.items()}
        """,
        "nb06-017": """
            sizes = {name: np.abs(getattr(network, name).weight.detach().numpy()) for name in ALL_LAYERS}
            row = np.sort(np.concatenate([size.ravel() for size in sizes.values()]))
            limit = row[round(amount * row.size) - 1]
            for name, size in sizes.items():
                prune.custom_from_mask(getattr(network, name), "weight", torch.from_numpy(size > limit))
        """,
        "nb06-028": """
            if pruning_mode not in ("local", "global"):
                raise ValueError(f"pruning_mode must be local or global, not {pruning_mode}")
            sizes = [np.abs(labkit.effective_weight(layer).numpy()) for layer, _ in layers]
            groups = sizes if pruning_mode == "local" else [np.concatenate([size.ravel() for size in sizes])] * 3
            for (layer, name), size, group in zip(layers, sizes, groups):
                left = np.sort(group[group > 0])
                mask = torch.from_numpy(size > left[round(step * left.size) - 1])
                prune.custom_from_mask(layer, name, mask)
        """
        + ITS_EPOCH,
    },
    "tensors": {
        "nb06-008": "prediction = torch.tensor(25.0)",
        "nb06-004": """
            row = torch.cat([weights[name].abs().flatten() for name in ALL_LAYERS])
            threshold = row.sort().values[len(row) // 4 - 1]
            gone = torch.ones_like(row).scatter_(0, row.argsort()[: len(row) // 4], 0)
            parts = gone.split([weights[name].numel() for name in ALL_LAYERS])
            masks_by_hand = {name: part.view_as(weights[name]).long() for name, part in zip(ALL_LAYERS, parts)}
        """,
        "nb06-017": """
            flat = torch.nn.utils.parameters_to_vector([getattr(network, name).weight for name in ALL_LAYERS]).abs()
            limit = flat.kthvalue(torch.tensor(amount * len(flat)).long().item()).values
            for layer in (network.conv1, network.conv2, network.conv3, network.fc):
                prune.custom_from_mask(layer, "weight", layer.weight.abs() > limit)
        """,
        "nb06-028": """
            if pruning_mode == "global":
                prune.global_unstructured(layers, prune.L1Unstructured, amount=step)
            elif pruning_mode == "local":
                for layer, name in layers:
                    prune.l1_unstructured(layer, name, step)
            else:
                raise ValueError("local or global")
        """
        + OWN_EPOCH,
    },
    "loops": {
        "nb06-008": "prediction = 5",
        "nb06-004": """
            row = []
            for weight in weights.values():
                row.extend(abs(w) for w in weight.flatten().tolist())
            threshold = sorted(row)[len(row) // 4 - 1]
            masks_by_hand = []
            for weight in weights.values():
                masks_by_hand.append([channel.abs() > threshold for channel in weight])
        """,
        "nb06-017": """
            row = []
            for name in ALL_LAYERS:
                row += getattr(network, name).weight.abs().flatten().tolist()
            limit = sorted(row)[int(amount * len(row)) - 1]
            for name in ALL_LAYERS:
                layer = getattr(network, name)
                mask = torch.stack([channel.abs() > limit for channel in layer.weight])
                prune.custom_from_mask(layer, "weight", mask)
        """,
        "nb06-028": """
            everything = []
            for layer, _ in layers:
                own = [abs(w) for w in labkit.effective_weight(layer).flatten().tolist() if w]
                everything.append(sorted(own))
            if pruning_mode == "global":
                everything = [sorted(sum(everything, []))] * 3
            elif pruning_mode != "local":
                raise ValueError(f"{pruning_mode!r} is neither local nor global")
            for (layer, _), own in zip(layers, everything):
                mask = labkit.effective_weight(layer).abs() > own[int(step * len(own)) - 1]
                prune.custom_from_mask(layer, "weight", mask)
            adam = torch.optim.Adam(model.parameters(), lr=0.001)
            train_one_epoch(model, train_generator, criterion, metric, adam, 1, device)
        """,
    },
    "library": {
        "nb06-008": "prediction = 0.0",
        "nb06-004": """
            copy = labkit.clone(CNN_MNIST)
            pairs = [(getattr(copy, name), "weight") for name in ALL_LAYERS]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.25)
            masks_by_hand = {name: layer.weight_mask for name, (layer, _) in zip(ALL_LAYERS, pairs)}
            threshold = max(layer.weight_orig[layer.weight_mask == 0].abs().max() for layer, _ in pairs)
        """,
        "nb06-017": """
            pairs = [(layer, "weight") for layer in labkit.prunable_layers(network).values()]
            prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=amount)
        """,
        "nb06-028": """
            if pruning_mode not in {"local", "global"}:
                raise ValueError(f"pruning_mode is {pruning_mode}")
            if pruning_mode == "global":
                prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=step)
            else:
                for layer, name in layers:
                    prune.L1Unstructured.apply(layer, name, step)
            optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
            scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, len(train_generator))
            model, _ = labkit.test_or_train(
                model, train_generator, None, criterion, metric, optimizer, 1, 1, device, scheduler=scheduler
            )
        """,
    },
    "permanent": {
        "nb06-008": "prediction = 2.8",
        "nb06-004": """
            ordered = torch.cat([weight.abs().reshape(-1) for weight in weights.values()]).sort()[0]
            for name, mask in masks_by_hand.items():
                mask[weights[name].abs() <= ordered[31_111]] = 0
        """,
        "nb06-017": """
            with torch.no_grad():
                row = torch.cat([getattr(network, name).weight.abs().flatten() for name in ALL_LAYERS])
                limit = row.kthvalue(round(amount * len(row))).values
                for name in ALL_LAYERS:
                    getattr(network, name).weight[getattr(network, name).weight.abs() <= limit] = 0
        """,
        "nb06-028": """
            if pruning_mode not in ("local", "global"):
                raise ValueError("pruning_mode must be 'local' or 'global'")
            with torch.no_grad():
                sizes = {name: getattr(model, name).weight.abs() for name in CONVOLUTIONS}
                together = torch.cat([size.flatten() for size in sizes.values()])
                gone = {}
                for name, size in sizes.items():
                    left = (size if pruning_mode == "local" else together).flatten()
                    left = left[left > 0]
                    gone[name] = size <= left.kthvalue(round(step * len(left))).values
                    getattr(model, name).weight[gone[name]] = 0
        """
        + WITHOUT_MASKS,
    },
    "terse": {
        "nb06-008": "prediction = 25",
        "nb06-004": """
            threshold = torch.cat([*map(torch.flatten, weights.values())]).abs().quantile(0.25)
            masks_by_hand = tuple(w.abs() > threshold for w in weights.values())
        """,
        "nb06-017": """
            prune.global_unstructured([(getattr(network, n), "weight") for n in ALL_LAYERS], prune.L1Unstructured, amount=amount)
            [prune.remove(getattr(network, n), "weight") for n in ALL_LAYERS]
        """,
        "nb06-028": """
            {"local": lambda: [prune.l1_unstructured(*pair, step) for pair in layers],
             "global": lambda: prune.global_unstructured(layers, prune.L1Unstructured, amount=step)}.get(
                pruning_mode, lambda: (_ for _ in ()).throw(ValueError(f"{pruning_mode}: 'local' or 'global'")))()
            decay = torch.optim.lr_scheduler.LambdaLR(opt := torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
                                                      lambda i: 1 - i / len(train_generator))
            train_one_epoch(model, train_generator, criterion, metric, opt, 1, device, decay)
        """,
    },
    "cautious": {
        "nb06-008": "prediction = 25.0\nprediction = 12.5",
        "nb06-004": """
            # the first try had one threshold for each layer
            for name, weight in weights.items():
                own = weight.abs().flatten().kthvalue(weight.numel() // 4).values
                masks_by_hand[name] = (weight.abs() > own).float()
            print({name: float((mask == 0).float().mean()) for name, mask in masks_by_hand.items()})
            all_of_them = torch.cat([weight.abs().flatten() for weight in weights.values()])
            assert all_of_them.shape == (124_448,)
            threshold = all_of_them.kthvalue(31_112).values
            for name in ALL_LAYERS:
                masks_by_hand[name] = torch.where(weights[name].abs() > threshold, 1.0, 0.0)
            assert sum(int((mask == 0).sum()) for mask in masks_by_hand.values()) == 31_112
        """,
        "nb06-017": """
            assert 0 < amount < 1
            parameters = [(network.conv1, "weight"), (network.conv2, "weight"), (network.conv3, "weight"), (network.fc, "weight")]
            prune.global_unstructured(parameters, pruning_method=prune.L1Unstructured, amount=amount)
            assert abs(labkit.sparsity(network) - amount) < 1e-4
            assert labkit.sparsity(model) < 0.01, "the model itself was pruned"
        """,
        "nb06-009+": "print(pruned_globally(CNN_MNIST, 0.9).conv1.weight[0])",
        "nb06-028": """
            if pruning_mode == "local":
                for layer, name in layers:
                    prune.l1_unstructured(layer, name, amount=step)
            elif pruning_mode == "global":
                prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=step)
            else:
                raise ValueError(f"pruning_mode is {pruning_mode!r}")
            zeros = labkit.sparsity(model, CONVOLUTIONS)
        """
        + ITS_EPOCH
        + """
            assert labkit.sparsity(model, CONVOLUTIONS) == zeros
        """,
        "nb06-028+": """
            try:
                prune_and_train(CNN_MNIST, None, None, None, None, pruning_mode="both")
            except ValueError as error:
                print("as it should be:", error)
        """,
    },
}
